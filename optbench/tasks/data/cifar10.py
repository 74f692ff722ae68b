"""CIFAR-10 from a local folder: 60,000 photographs of 32 x 32 pixels in ten classes (Krizhevsky 2009).

Either published version: binary (`data_batch_1.bin`: a byte for the label and 3,072 for the pixels of each image)
or for Python (`data_batch_1`: a pickle, which is read without running anything).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optbench.fields import UserError
from optbench.lazy import np
from optbench.tasks.data import folder, unpickle
from optbench.tasks.data.folder import Labelled, labelled

NAME = "CIFAR-10"
WHERE = "Get cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there."
SIZE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIZE * SIZE

CHECKSUMS = {
    "data_batch_1": ("5dd7e06a14cb22eb9f671a540d1b7c25", "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": ("5ea93a67294ea407fff1d09f752e9692", "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": ("942cd6a4bcdd0dd3c604fbe906cb4421", "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": ("ae636b3ba5c66a11e91e8cb52e771fcb", "634d18415352ddfa80567beed471001a"),
    "data_batch_5": ("53f37980c15c3d472c316c40844f3f0d", "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": ("803d5f7f4d78ea53de84dbe85f74fb6d", "40351d587109b95175f43aff81a1287e"),
}
"""Of the binary file, and of that for Python."""
LAYOUTS = tuple(
    folder.Layout((place, "cifar10", "."), {name + suffix: sums[i] for name, sums in CHECKSUMS.items()})
    for i, (place, suffix) in enumerate((("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", "")))
)


def read(paths: Sequence[Path]) -> tuple[Labelled, Labelled]:
    *batches, test = [binary(path) if path.suffix == ".bin" else pickled(path) for path in paths]
    pixels, labels = zip(*batches, strict=True)
    return (np.concatenate(pixels), np.concatenate(labels)), test


def binary(path: Path) -> Labelled:
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % (1 + PIXELS):
        raise UserError(
            f"'{path}' has {raw.size:,} bytes, not a multiple of the {1 + PIXELS:,} bytes of an image. "
            "It was cut short or is another file: download it again."
        )
    rows = raw.reshape(-1, 1 + PIXELS)
    return labelled(path, shaped(rows[:, 1:]), rows[:, 0])


def pickled(path: Path) -> Labelled:
    content = unpickle.load(path)
    batch = content if isinstance(content, dict) else {}
    pixels, labels = batch.get(b"data"), batch.get(b"labels")
    count = len(labels) if isinstance(labels, list) and all(type(label) is int for label in labels) else 0
    if not count or not isinstance(pixels, unpickle.Array) or pixels.shape != (count, PIXELS):
        raise UserError(
            f"'{path}' is not a batch of CIFAR-10, a dict with 'data', an array [n, {PIXELS}] of bytes, and 'labels', "
            "n integers. Download it again, or give the binary version."
        )
    return labelled(path, shaped(np.frombuffer(pixels.data, np.uint8)), np.array(labels))


def shaped(pixels: Any) -> Any:
    return np.ascontiguousarray(pixels).reshape(-1, CHANNELS, SIZE, SIZE)
