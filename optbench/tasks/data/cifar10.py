"""CIFAR-10 from a local folder: 60,000 photographs of 32 x 32 pixels in ten classes (Krizhevsky 2009).

Either published version: binary (`data_batch_1.bin`: a byte for the label and 3,072 for the pixels of each image)
or for Python (`data_batch_1`: a pickle, which is read without running anything).
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optbench.fields import UserError
from optbench.lazy import np
from optbench.tasks.data import folder
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
    content = unpickled(path)
    batch = content if isinstance(content, dict) else {}
    pixels, labels = batch.get(b"data"), batch.get(b"labels")
    count = len(labels) if isinstance(labels, list) and all(type(label) is int for label in labels) else 0
    if not count or not isinstance(pixels, Array) or pixels.shape != (count, PIXELS):
        raise UserError(
            f"'{path}' is not a batch of CIFAR-10, a dict with 'data', an array [n, {PIXELS}] of bytes, and 'labels', "
            "n integers. Download it again, or give the binary version."
        )
    return labelled(path, shaped(np.frombuffer(pixels.data, np.uint8)), np.array(labels))


def shaped(pixels: Any) -> Any:
    return np.ascontiguousarray(pixels).reshape(-1, CHANNELS, SIZE, SIZE)


# --- a pickle of arrays: a program, and a stranger's, none of which is run ------------------------------------

# Only dict, list, tuple, int, str and bytes are made, and arrays of unsigned bytes. What a pickle names in NumPy is
# answered by stand-ins of our own; any other name is refused before it is imported.


class Code(pickle.UnpicklingError):
    """A pickle names something that is no array."""


class Dtype:
    """Stands for numpy.dtype; unsigned bytes only."""

    def __init__(self, code: Any, *rest: Any):
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}, not of unsigned bytes")

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and the like, which bytes do not have


class Array:
    """Stands for numpy.ndarray: a shape and bytes."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        sizes = isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)
        if not sizes or not isinstance(kind, Dtype) or fortran or not isinstance(data, bytes):
            raise pickle.UnpicklingError("it holds an array in an unknown form")
        if math.prod(shape) != len(data):
            raise pickle.UnpicklingError(f"an array of shape {shape} has {len(data)} bytes")
        self.shape, self.data = shape, data


def encode(text: str, encoding: str) -> bytes:
    """Stands for _codecs.encode, with which newer Pythons write bytes into older pickles."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Code(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def reconstruct(*rest: Any) -> Array:
    """Stands for numpy's _reconstruct, which makes an empty array to be filled."""
    return Array()


NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): reconstruct,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): encode,
}


class ArraysOnly(pickle.Unpickler):
    """An unpickler that finds nothing but the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for what a pickle names; nothing is imported."""
        if (module, name) not in NAMES:
            raise Code(f"{module}.{name}")
        return NAMES[module, name]


def unpickled(path: Path) -> Any:
    """The contents of a pickle of plain data; UserError if it is anything else."""
    try:
        return ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Code as error:
        raise UserError(
            f"'{path}' is a pickle that would run code ({error}); nothing of it was run. "
            "Give files with arrays only, or the binary version of the data set."
        ) from None
    except Exception as error:  # a torn pickle raises whatever its next byte happens to mean
        raise UserError(
            f"'{path}' cannot be read as a pickle of arrays: {str(error)[:200] or type(error).__name__}. "
            "Download it again, or give the binary version of the data set."
        ) from None
