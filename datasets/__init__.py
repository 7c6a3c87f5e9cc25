"""Dataset layer: layouts, preparation, splits, streams, augmentations and the embedded synthetic set."""

from typing import NoReturn

_HUGGING_FACE = {"load_dataset", "Dataset", "DatasetDict", "load_from_disk", "IterableDataset", "Features"}


def __getattr__(name: str) -> NoReturn:
    if name in _HUGGING_FACE:
        raise ImportError(
            f"'datasets.{name}': this is the dataset layer of the skeleton benchmark; the Hugging Face package of the same "
            "name is shadowed while you run from this folder. Run your own script from another folder."
        )
    raise AttributeError(f"module 'datasets' has no attribute {name!r}")
