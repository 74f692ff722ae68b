"""The local folder that data is read from: `--data DIR`, or the environment variable OPTBENCH_DATA.

Worker processes inherit the variable. The folder's path is no part of a cell: what was read is, as a digest of
the decoded numbers, so that the same data packed otherwise gives the same cell.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from optbench.fields import UserError
from optbench.lazy import np

VARIABLE = "OPTBENCH_DATA"


Labelled = tuple["np.ndarray", "np.ndarray"]
"""Pixels uint8 [n, channels, size, size] and labels uint8 [n]."""
CLASSES = 10


class Layout(NamedTuple):
    """One way in which a data set is published."""

    folders: tuple[str, ...]
    """Where the files may be, below the data folder."""
    checksums: dict[str, str]
    """Each file, and its published MD5 or SHA-256."""


class Stamp(NamedTuple):
    """A file as it is now; what was read from it is kept for as long as this stays the same."""

    path: Path
    size: int
    modified: int


def use(path: str) -> None:
    """Read data from this folder, in this process and in those that it starts."""
    if not Path(path).is_dir():
        what = "is a file" if Path(path).exists() else "is not there"
        raise UserError(f"data folder {path!r} {what}. Give the folder that holds the data with --data DIR.")
    os.environ[VARIABLE] = os.path.abspath(path)


def locate(what: str, layouts: Sequence[Layout], source: str) -> list[Path]:
    """The files of the first layout that is complete; else a UserError that names a file that is missing."""
    first = next(iter(layouts[0].checksums))
    said, base = f"{what}: {first!r} is missing", os.environ.get(VARIABLE)
    if not base:
        raise UserError(
            f"{said}: no data folder was given. Give it with --data DIR or in {VARIABLE}. {source}"
        )
    if not Path(base).is_dir():
        raise UserError(f"{said}: {VARIABLE}={base!r} is not a folder. Give one with --data DIR. {source}")
    wanted = [
        [Path(base, folder, name) for name in layout.checksums]
        for layout in layouts
        for folder in layout.folders
    ]
    missing = [[path for path in paths if not path.is_file()] for paths in wanted]
    whole = [paths for paths, lacking in zip(wanted, missing, strict=True) if not lacking]
    if whole:
        return whole[0]
    for paths, lacking in zip(wanted, missing, strict=True):
        if len(lacking) < len(paths):
            raise UserError(f"{what}: {lacking[0].name!r} is missing in '{lacking[0].parent}'. {source}")
    searched = ", ".join(dict.fromkeys(f"'{paths[0].parent}'" for paths in wanted))
    raise UserError(f"{said}; searched {searched}. {source}")


def labelled(path: Path, pixels: np.ndarray, labels: np.ndarray) -> Labelled:
    """Images with their labels, once these are known to be labels."""
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if wrong.size:
        raise UserError(
            f"'{path}': image {wrong[0]} has label {labels[wrong[0]]}, and there are {CLASSES} classes (0 to 9). "
            "It is damaged or another file: download it again."
        )
    return pixels, labels.astype(np.uint8)


def stamps(paths: Sequence[Path]) -> tuple[Stamp, ...]:
    return tuple(Stamp(path, (state := path.stat()).st_size, state.st_mtime_ns) for path in paths)


@functools.lru_cache(maxsize=256)
def has(file: Stamp, checksum: str) -> bool:
    """Whether this is the MD5 or SHA-256 of a file, in hex."""
    kind = "md5" if len(checksum) == 32 else "sha256"
    with file.path.open("rb") as opened:
        found = hashlib.file_digest(opened, lambda: hashlib.new(kind, usedforsecurity=False))
    return found.hexdigest() == checksum


def notes(paths: Sequence[Path], layouts: Sequence[Layout]) -> list[str]:
    """A sentence if files are not those that were published; they are used all the same."""
    published = {name: value for layout in layouts for name, value in layout.checksums.items()}
    other = [file.path for file in stamps(paths) if not has(file, published[file.path.name])]
    if not other:
        return []
    names = ", ".join(path.name for path in other)
    return [
        f"{names} in '{other[0].parent}' can be read, but {'is' if len(other) == 1 else 'are'} not as published."
    ]


def digest(*arrays: np.ndarray) -> str:
    """Sixteen hex digits of the numbers and shapes, whatever kind of file they came from."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(str((array.dtype.str, array.shape)).encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()[:16]
