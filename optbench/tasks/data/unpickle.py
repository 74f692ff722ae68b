"""Pickled arrays of bytes, read without running anything: a pickle is a program, and these are strangers'.

Only dict, list, tuple, int, str and bytes are made, and arrays of unsigned bytes. What a pickle names in
NumPy is answered by stand-ins of our own; any other name is refused before it is imported.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

from optbench.fields import UserError


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


def load(path: Path) -> Any:
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
