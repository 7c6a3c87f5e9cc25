"""Released checkpoints of SkeletonCLR, AimCLR, ActCLR and HiCLR, read strictly (aimclr.md 2.4, actclr.md 14.2, hiclr.md 8.1).

All four hold the same ST-GCN under ``encoder_q.``, in the form of pre-training (with projector, momentum encoder and queue)
or of the linear evaluation (with a classifier). Every tensor of a file is either taken, or dropped for a reason that is
stated, or refused; every tensor of the encoder is in the file, or the file is refused.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datasets.archives import look_over
from datasets.layout import NTU25
from encoders.graph import spatial_adjacency
from encoders.stgcn import STGCN, STGCNConfig, convert_released
from engine.config import BenchError

RELEASES = ("aimclr", "actclr", "hiclr", "skeletonclr")
"""Methods whose released checkpoints are read."""
_HEAD = re.compile(r"encoder_q\.fc\.((0|2)\.)?(weight|bias)")
_DROPPED = {
    r"encoder_k\..*": "momentum encoder",
    r"queue(_ptr)?": "queue of negatives",
    r"encoder_q\.fc\.[02]\..*": "projector",
    r"encoder_q\.fc\..*": "linear head",
}
_MOST_BYTES = 4 << 30
"""Bytes that a checkpoint may unpack to; the released ones have 10 to 40 million."""
_MASK = {r"mask_param": "HiCLR's mask value"}


@dataclass(frozen=True)
class Released:
    """A checkpoint's encoder.

    Attributes:
        state: a state of :class:`encoders.stgcn.STGCN` with its published settings, float32.
        matched: released key -> name in ``state``.
        dropped: released key -> why it is left out.
    """

    state: Mapping[str, Tensor]
    matched: Mapping[str, str]
    dropped: Mapping[str, str]

    def lines(self) -> list[str]:
        """The report: what was matched, missing and dropped."""
        count = sum(self.state[name].numel() for name in self.matched.values())
        groups = ", ".join(f"{group} ({n})" for group, n in Counter(map(_group, self.matched)).items())
        reasons = Counter((_group(key), reason) for key, reason in self.dropped.items())
        return [
            f"matched {len(self.matched)} tensors, {count:,} numbers: {groups}",
            "missing none",
            *(f"dropped {group}{f' ({n} tensors)' if n > 1 else ''}: {why}" for (group, why), n in reasons.items()),
        ]


def read_released(path: Path, release: str) -> Released:
    """The encoder of a released checkpoint; nothing in the file is executed.

    Args:
        path: ``.pt`` with tensors by name; a ``module.`` prefix is dropped.
        release: one of ``RELEASES``.

    Raises:
        BenchError: not such a file, or a tensor is missing, unknown, of another shape or not finite; all are named.
    """
    state = _read_tensors(path)
    with torch.device("meta"):  # names and shapes only
        template = STGCN(STGCNConfig(), NTU25, frames=50, persons=2).state_dict()
    adjacency = spatial_adjacency(NTU25)
    converted: dict[str, Tensor] = {}
    matched: dict[str, str] = {}
    dropped: dict[str, str] = {}
    faults: list[str] = []
    for key, value in state.items():
        name, reason = _name(key, value, release, template), _why_dropped(key, release)
        if key == "encoder_q.A":
            if value.shape != adjacency.shape or not torch.allclose(value.float(), adjacency, atol=1e-5):
                faults.append("encoder_q.A is the adjacency of another graph than NTU-25's")
            dropped[key] = "adjacency, equal to the one that is built here"
        elif reason:
            dropped[key] = reason
        elif name is None:
            faults.append(f"{key} {_shape(value)} is unknown")
        elif name in converted:
            faults.append(f"{key} stands for the same tensor as {next(k for k, n in matched.items() if n == name)}")
        else:
            tensor = next(iter(convert_released({key: value}).values()))
            expected = template[name]
            if tensor.shape != expected.shape or tensor.is_floating_point() != expected.is_floating_point():
                wrong = f"{value.dtype} {_shape(value)}, expected {expected.dtype} {_shape(expected)}"
                faults.append(f"{key} ({_meaning(name)}) is {wrong}")
            elif not torch.isfinite(tensor).all():
                faults.append(f"{key} holds NaN or infinite values")
            converted[name] = tensor.to(expected.dtype).contiguous().clone()
            matched[key] = name
    missing = [name for name in template if name not in converted]
    if faults or missing:
        raise BenchError(_refusal(path, release, state, faults, missing))
    return Released(converted, matched, dropped)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name, without ``module.``."""
    if not path.is_file():
        raise BenchError(f"{path}: there is no such file.")
    why = _fault(path)
    if not why:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged or hostile file comes to
            asked = re.search(r"(?:GLOBAL|global) ['`]?([\w.]*\.\w+)", str(error))
            why = f"it asks for {asked[1]}" if asked else "it is damaged, or holds more than tensors; download it again"
    if why:
        raise BenchError(f"{path} is refused as a checkpoint of plain tensors ({why}). Nothing in it was run.")
    if not isinstance(content, Mapping) or not content:
        raise BenchError(f"{path} holds a {type(content).__name__}; expected tensors by name, as the authors publish.")
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if (
            not isinstance(key, str)
            or not isinstance(value, Tensor)
            or value.layout != torch.strided
            or value.is_quantized
        ):
            raise BenchError(
                f"{path}: entry {str(key)[:80]!r} is a {type(value).__name__}; expected plain tensors by name. If the "
                "weights are inside a larger checkpoint, save their state_dict alone."
            )
        if key.removeprefix("module.") in tensors:
            raise BenchError(f"{path}: {key.removeprefix('module.')} is there with and without 'module.'.")
        tensors[key.removeprefix("module.")] = value
    return tensors


def _fault(path: Path) -> str:
    """What is wrong with a file, "" if nothing is; torch looks at no checksum, and has words of its own for the rest."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4)
    if not zipfile.is_zipfile(path):
        if start == b"PK\3\4":
            return f"it is cut short: {size:,} bytes, and the end of a zip is missing; download it again"
        if start[:1] != b"\x80":  # how the older form of torch.save begins
            return f"torch.save did not write it: {f'it begins with {start!r}' if size else 'it is empty'}"
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            members = look_over(archive, path, _MOST_BYTES)
            if not any(member.filename.endswith("/data.pkl") for member in members):
                return f"it is a zip without tensors of torch: {', '.join(archive.namelist()[:4]) or 'nothing'}"
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        return f"it is damaged ({error}); download it again"
    return f"it is damaged: the checksum of {broken} is wrong; download it again" if broken else ""


def _why_dropped(key: str, release: str) -> str:
    if key.startswith("encoder_q.fc") and not _HEAD.fullmatch(key):
        return ""
    reasons = _DROPPED | (_MASK if release == "hiclr" else {})
    return next((reason for pattern, reason in reasons.items() if re.fullmatch(pattern, key)), "")


def _name(key: str, value: Tensor, release: str, template: Mapping[str, Tensor]) -> str | None:
    """What ST-GCN calls a released tensor, ``None`` if it is none of its."""
    if release != "hiclr" and re.fullmatch(r"encoder_q\.edge_importance\d+", key):
        return None
    try:
        names = list(convert_released({key: value}))
    except (ValueError, RuntimeError, IndexError):
        return None
    return names[0] if len(names) == 1 and names[0] in template else None


def _refusal(path: Path, release: str, state: Mapping[str, Tensor], faults: list[str], missing: list[str]) -> str:
    if any(key.startswith("encoder_q.graph_layers") for key in state):
        return f"{path} holds HiCLR's transformer (DSTA); released weights are read for ST-GCN only."
    if not any(key.startswith("encoder_q.") for key in state):
        some = ", ".join(list(state)[:4])
        return f"{path} has no encoder_q.* tensors, so it is no checkpoint of {release}; it holds {some} ..."
    parts = [*faults[:8], *([f"and {len(faults) - 8} more"] if len(faults) > 8 else [])]
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        parts.append(f"no tensor for {', '.join(f'{name} ({_meaning(name)})' for name in missing[:4])}{more}")
    if release != "hiclr" and any("edge_importance1 " in fault for fault in faults):
        parts.append("edge_importance1 .. 10 are HiCLR's names: --as hiclr?")
    return f"{path} is not a whole {release} checkpoint of ST-GCN (16 .. 256 channels, NTU-25): {'; '.join(parts)}."


def _meaning(name: str) -> str:
    """What a tensor of ST-GCN does, in words."""
    block = re.match(r"blocks\.(\d+)\.(.*)", name)
    if not block:
        return "normalisation of the input"
    parts = {
        "graph.importance": "importance of edges",
        "graph": "graph convolution",
        "temporal": "temporal convolution",
        "norm_in": "normalisation before it",
        "norm_out": "normalisation after it",
        "shortcut": "shortcut",
    }
    what = next((words for part, words in parts.items() if block[2].startswith(part)), block[2])
    return f"block {int(block[1]) + 1}, {what}"


def _group(key: str) -> str:
    """What a line of the report calls a tensor: its block or family."""
    if key.startswith("encoder_k."):
        return "encoder_k.*"
    return re.sub(
        r"\b(st_gcn_networks|edge_importance|data_bn|fc)\b.*|edge_importance\d+",
        lambda m: f"{m[1] or 'edge_importance'}.*",
        key,
    )


def _shape(value: Tensor) -> str:
    return str(tuple(value.shape))
