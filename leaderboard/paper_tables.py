"""The tables of the papers, as data: which rows and columns they have, and where their numbers are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

THREE = "joint+bone+motion"
SUPERVISED = "supervised"


@dataclass(frozen=True)
class Row:
    """A row as the paper prints it.

    Attributes:
        name: as printed.
        method: its name among published numbers, "" if that is ``name``.
        stream: the stream, or those whose scores are summed up.
        variant: which of a method's published numbers are meant, see ``leaderboard.published.Number``.
        plugin: the suite's method, with preset; "" if that is ``method`` in lower case.
        protocol: of its published numbers where it is not the column's, e.g. ``supervised``.
        measured: the suite's protocol for it where that is not the table's.
        ablation: the row of a declared ablation that it is, ``METHOD.TABLE/ROW``.
        encoder: of a reference row; "": the one that its method is run with.
    """

    name: str
    method: str = ""
    stream: str = "joint"
    variant: str = ""
    plugin: str = ""
    protocol: str = ""
    measured: str = ""
    ablation: str = ""
    encoder: str = ""

    @property
    def published(self) -> str:
        """The method's name among published numbers."""
        return self.method or self.name

    @property
    def suite(self) -> str:
        """The name that the method would have in this suite."""
        return self.plugin or self.published.lower()

    @property
    def measured_stream(self) -> str:
        """The stream to measure on; joint where none is printed."""
        return {"": "joint", "three streams": THREE}.get(self.stream, self.stream)


@dataclass(frozen=True)
class Column:
    """A column: data and measure.

    Attributes:
        title: as shown.
        dataset: the suite's name.
        split: its split, "" where the source does not print it.
        protocol: of the published numbers.
        metric: of percent.
        source: ``dataset/split`` of the pre-training where that is another than ``dataset``.
        substitute: whether the data stand in for the paper's: nothing is published about them.
        known_as: ``dataset/split`` in records, where the paper's data were read under another name.
    """

    title: str
    dataset: str
    split: str
    protocol: str = "linear"
    metric: str = "top1"
    source: str = ""
    substitute: bool = False
    known_as: str = ""

    @property
    def place(self) -> str:
        """``dataset/split`` to measure on; xsub where no split is printed."""
        return self.known_as or f"{self.dataset}/{self.split or 'xsub'}"


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes:
        name: ``paper.table``, as on the command line.
        title: what it is about.
        rows, columns: what it compares, on what.
        source, place: where its numbers are printed, as in ``published.csv``; "": quoted in several papers, which agree.
        measured: the suite's protocol for a published one, where it is not of the same name: the paper's own recipe.
        note: what a reader has to know.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    source: str = ""
    place: str = ""
    measured: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


_TITLES = {"ntu60": "NTU-60", "ntu120": "NTU-120", "pku_mmd1": "PKU-I", "pku_mmd2": "PKU-II"}


def _splits(dataset: str, *splits: str, protocol: str = "linear") -> tuple[Column, ...]:
    return tuple(Column(f"{_TITLES[dataset]} {split}", dataset, split, protocol) for split in splits)


def _transfer(dataset: str, split: str) -> Column:
    return Column(f"{_TITLES[dataset]} {split}", dataset, split, "transfer:linear", source=f"ntu60/{split}")


def _frames(metric: str, title: str) -> Column:
    return Column(f"PKU-II xview {title}", "pku_mmd2", "xview", "segmentation", metric, source="ntu60/xview")


def _three(*methods: str, variant: str = "") -> tuple[Row, ...]:
    return tuple(Row(f"3s-{method}", method, THREE, variant) for method in methods)


def _streams(*methods: str, variant: str = "") -> tuple[Row, ...]:
    return tuple(Row(f"{m} {s}", m, s, variant) for s in ("joint", "motion", "bone") for m in methods)


_DAGGER = "256-d features, run again by the ActCLR authors"
_NTU = (*_splits("ntu60", "xview", "xsub"), *_splits("ntu120", "xset", "xsub"))
_FINETUNE = (
    *_splits("ntu60", "xview", "xsub", protocol="finetune"),
    *_splits("ntu120", "xset", "xsub", protocol="finetune"),
)
_BY_SUBJECT = (*_splits("ntu60", "xsub", "xview"), *_splits("ntu120", "xsub", "xset"))
_ACTCLR = {"linear": "linear:actclr", "knn:unspecified": "knn"}
_AIMCLR = {"linear": "linear:aimclr", "knn:unspecified": "knn"}
_NO_STEP = "two branches, the strong one without a step between"
_EQUAL = "The suite adds streams up with equal weights; papers weigh them, some by data set."


def _st_gcn(name: str, stream: str = "joint") -> Row:
    return Row(name, "ST-GCN", stream, plugin=SUPERVISED, protocol=SUPERVISED)


def _hiclr_transformer(protocol: str) -> Row:
    measured = f"{protocol}:hiclr-transformer"
    return Row("HiCLR, transformer", "HiCLR-Transformer", "", plugin="hiclr:transformer", measured=measured)


def _actclr_rows(*earlier: str) -> tuple[Row, ...]:
    """The rows with which ActCLR's comparisons end; ``earlier`` methods of three streams come before 3s-CMD."""
    return (
        Row("CMD, run again", "CMD", variant=_DAGGER),
        *(Row(name) for name in ("GL-Transformer", "CPM", "ActCLR")),
        *_three(*earlier),
        Row("3s-CMD, run again", "CMD", THREE, _DAGGER),
        *_three("SkeleMixCLR", "CPM", "ActCLR"),
    )


_ALL = (
    PaperTable(
        "actclr.t1",
        "ActCLR Table 1: linear evaluation by stream",
        (*_streams("AimCLR", "ActCLR"), *_three("AimCLR", "ActCLR")),
        _NTU,
        "ActCLR CVPR23",
        "Table 1",
        _ACTCLR,
        _EQUAL,
    ),
    PaperTable(
        "actclr.t2",
        "ActCLR Table 2: linear evaluation on NTU-60, comparison",
        (
            *(Row(name) for name in ("LongT GAN", "MS2L", "AS-CAL", "P&C", "SeBiReNet", "ISC", "AimCLR")),
            *_actclr_rows("Colorization", "CrosSCLR", "AimCLR"),
        ),
        _splits("ntu60", "xview", "xsub"),
        "ActCLR CVPR23",
        "Table 2",
        _ACTCLR,
        f"Run again: by the authors of ActCLR, with 256 features. {_EQUAL}",
    ),
    PaperTable(
        "actclr.t3",
        "ActCLR Table 3: linear evaluation on NTU-120, comparison",
        (
            *(Row(name) for name in ("AS-CAL", "AimCLR")),
            *_actclr_rows("CrosSCLR", "AimCLR"),
        ),
        _splits("ntu120", "xset", "xsub"),
        "ActCLR CVPR23",
        "Table 3",
        _ACTCLR,
        f"Run again: by the authors of ActCLR, with 256 features. {_EQUAL}",
    ),
    PaperTable(
        "actclr.t4",
        "ActCLR Table 4: fine-tuning with all labels",
        (
            _st_gcn("ST-GCN, from scratch"),
            *(Row(name) for name in ("SkeletonCLR", "AimCLR", "CPM", "ActCLR")),
            _st_gcn("3s-ST-GCN, from scratch", THREE),
            *_three("CrosSCLR", "AimCLR", "SkeleMixCLR", "ActCLR"),
        ),
        _FINETUNE,
        "ActCLR CVPR23",
        "Table 4",
        note=_EQUAL,
    ),
    PaperTable(
        "actclr.t5",
        "ActCLR Table 5: transfer from NTU-60 to PKU-MMD, frozen encoder, linear",
        (
            *(Row(name) for name in ("LongT GAN", "MS2L", "ISC")),
            Row("Hi-TRS", stream="three streams"),
            *_three("CrosSCLR", "AimCLR", "ActCLR"),
        ),
        tuple(_transfer(name, split) for split in ("xview", "xsub") for name in ("pku_mmd1", "pku_mmd2")),
        "ActCLR CVPR23",
        "Table 5",
        {"transfer:linear": "transfer:linear:actclr"},
        f"That the source has the target's split is assumed (actclr.md 12.1). {_EQUAL}",
    ),
    PaperTable(
        "actclr.t6",
        "ActCLR Table 6: segmentation of PKU-MMD II xview, pre-trained on NTU-60 xview",
        _streams("AimCLR", "ActCLR"),
        tuple(_frames(m, t) for m, t in (("acc", "ACC"), ("macc", "MACC"), ("fwiou", "FWIoU"), ("miou", "mIoU"))),
        "ActCLR CVPR23",
        "Table 6",
        note="The paper states neither windows nor labels; the suite's are its own, so the gap between methods counts.",
    ),
    PaperTable(
        "hiclr.t1",
        "HiCLR Table 1: linear evaluation, comparison",
        (
            *(Row(name) for name in ("LongT GAN", "MS2L", "P&C", "AS-CAL", "ISC", "SeBiReNet")),
            *_three("CrosSCLR", "AimCLR", "Colorization", "HiCLR"),
            *(Row(name) for name in ("H-Transformer", "GL-Transformer")),
            _hiclr_transformer("linear"),
        ),
        _BY_SUBJECT,
        "HiCLR arXiv 2211.13466",
        "Table 1",
        _AIMCLR,
        f"The stream of HiCLR's transformer is not printed. {_EQUAL}",
    ),
    PaperTable(
        "hiclr.t2",
        "HiCLR Table 2: fine-tuning with all labels",
        (
            *_three("CrosSCLR", "AimCLR", "HiCLR"),
            Row("Hi-TRS", stream="three streams"),
            _hiclr_transformer("finetune"),
        ),
        (
            *_splits("ntu60", "xsub", "xview", protocol="finetune"),
            *_splits("ntu120", "xsub", "xset", protocol="finetune"),
        ),
        "HiCLR arXiv 2211.13466",
        "Table 2",
        {"finetune": "finetune:hiclr"},
        _EQUAL,
    ),
    PaperTable(
        "hiclr.released",
        "HiCLR's repository: linear evaluation of the released weights",
        (*_streams("HiCLR", variant="released weights"), *_three("HiCLR", variant="released weights")),
        _splits("ntu60", "xsub"),
        "github.com/JHang2020/HiCLR",
        "README",
        _AIMCLR,
        f"Best epoch on the test part; measured numbers are the last epoch's. {_EQUAL}",
    ),
    PaperTable(
        "hiclr.strong",
        "HiCLR: strong augmentations, hierarchical and direct, linear evaluation on NTU-60",
        (
            *(
                Row(name, "HiCLR", "", variant, ablation=f"hiclr.arrangement/{variant}")
                for name, variant in (
                    ("k=1 BA", "k=1, BA"),
                    ("k=2 BA|NA", "k=2, BA,NA"),
                    ("k=3 BA|NA|Mask", "k=3, BA,NA,Mask"),
                    ("k=3 BA|NA|AdaIN", "k=3, BA,NA,AdaIN"),
                    ("k=3 BA|NA|DAE", "k=3, BA,NA,Drop/Add Edges"),
                    ("k=4 BA|NA|DAE|Mask", "k=4, BA,NA,Drop/Add Edges,Mask"),
                    ("k=4 BA|NA|DAE|AdaIN", "k=4, BA,NA,Drop/Add Edges,AdaIN"),
                )
            ),
            Row("two branches, no step between", "HiCLR", "", _NO_STEP, ablation=f"hiclr.strong/{_NO_STEP}"),
            Row(
                "strong used directly",
                "HiCLR",
                "",
                "strong augmentation used directly",
                ablation="hiclr.strong/Mask directly",
            ),
        ),
        (Column("NTU-60", "ntu60", ""),),
        measured=_AIMCLR,
        note="The slides print neither stream nor split; 68.3 is SkeletonCLR's number on joint, xsub, so this is what is "
        "measured. The last two rows come from a third party's note, which does not say which augmentation was used directly: "
        "measured is the mask.",
    ),
    PaperTable(
        "igm.t1",
        "IGM's poster: linear evaluation, comparison",
        (
            *_three("AimCLR", "CPM", "CMD"),
            Row("GL-Transformer"),
            *_three("ActCLR", "Colorization"),
            *(Row(name) for name in ("SkeletonMAE", "MAMP", "CRRL", "PCM3", "IGM")),
        ),
        _NTU,
        "IGM ECCV24",
        "poster table",
        note=_EQUAL,
    ),
    PaperTable(
        "igm.knn",
        "IGM: idempotency by KNN, as somebody's notes on the paper have it",
        tuple(
            Row(name, "IGM", variant=variant, ablation=f"igm.idempotency/{variant}")
            for name, variant in (
                ("without idempotency", "w/o L_ide"),
                ("features", "L_ide_feat"),
                ("distribution", "L_ide_dist"),
                ("both", "full"),
            )
        ),
        _splits("ntu60", "xview", "xsub", protocol="knn:unspecified"),
        "IGM arXiv 2410.20349",
        "KNN ablation (reading note)",
        {"knn:unspecified": "knn"},
        "The number of neighbours is not known; measured is 1-NN.",
    ),
    PaperTable(
        "aimclr.linear",
        "AimCLR and SkeletonCLR: linear evaluation by stream",
        (*_streams("SkeletonCLR", "AimCLR"), *_three("SkeletonCLR", "AimCLR")),
        (*_BY_SUBJECT, *_splits("pku_mmd1", "xsub"), *_splits("pku_mmd2", "xsub")),
        measured=_AIMCLR,
        note=f"AimCLR's own paper was not at hand: these are its numbers as later papers quote them. {_EQUAL}",
    ),
    PaperTable(
        "aimclr.released",
        "AimCLR's repository: linear evaluation of the released weights",
        (*_streams("AimCLR", variant="released weights"), *_three("AimCLR", variant="released weights")),
        (*_splits("ntu60", "xsub", "xview"), *_splits("pku_mmd1", "xsub")),
        "github.com/Levigty/AimCLR",
        "README",
        _AIMCLR,
        f"Best epoch on the test part; measured numbers are the last epoch's. {_EQUAL}",
    ),
    PaperTable(
        "aimclr.finetune",
        "AimCLR: fine-tuning with all labels",
        (
            _st_gcn("ST-GCN, from scratch"),
            *(Row(name) for name in ("SkeletonCLR", "AimCLR")),
            _st_gcn("3s-ST-GCN, from scratch", THREE),
            *_three("CrosSCLR", "AimCLR"),
        ),
        _FINETUNE,
        measured={"finetune": "finetune:aimclr"},
        note=f"As later papers quote them. From scratch is trained by finetune, as statistics of BatchNorm that are kept "
        f"need a pre-training. {_EQUAL}",
    ),
    PaperTable(
        "aimclr.semi",
        "AimCLR: few labels",
        _three("AimCLR", "CMD", "ActCLR"),
        tuple(
            Column(f"NTU-60 {split}, {share} %", "ntu60", split, protocol)
            for protocol, share in (("semi:1", 1), ("semi", 10))
            for split in ("xsub", "xview")
        ),
        note=f"As later papers quote them, with draws of their own. {_EQUAL}",
    ),
)
TABLES: Mapping[str, PaperTable] = {table.name: table for table in _ALL}
"""By name, as on the command line."""
