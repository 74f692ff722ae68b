"""The folder of a report: files are written atomically; of an earlier report only files that a user changed remain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from optbench.environment import sweep, whole
from optbench.fields import UserError

MANIFEST = "files.sha256"
"""What was written, as `sha256sum --check` reads it."""


def save(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files, the pages last, so that none refers to a missing figure; then delete stale ones.

    Deleted are only files of this folder that the earlier report's manifest lists and that have not changed since.
    """
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = "".join(f"{total}  {name}\n" for name, total in sorted(sums.items()))
    try:
        earlier = read(folder / MANIFEST)
        sweep(folder)
        for name, data in {**files, MANIFEST: manifest.encode()}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as temporary:
                temporary.write_bytes(data)
        for name, total in earlier.items():
            if name not in files and is_ours(folder, name, total):
                (folder / name).unlink()
    except OSError as error:
        raise UserError(
            f"report folder {str(folder)!r} cannot be written: {error.strerror}. Give another --out."
        ) from error


def read(path: Path) -> dict[str, str]:
    """The names and sums of a manifest; nothing if there is none, or it is not one."""
    if not path.is_file():
        return {}
    lines = [line.partition("  ") for line in path.read_text(errors="replace").splitlines()]
    return {name: total for total, _, name in lines if name}


def is_ours(folder: Path, name: str, total: str) -> bool:
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not path.is_file():
        return False
    inside = path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink()
    return inside and hashlib.sha256(path.read_bytes()).hexdigest() == total
