"""Images to classify, from whichever data set: arrays of a training, a validation and a test part."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from optbench.fields import UserError
from optbench.lazy import np
from optbench.tasks.data import cifar10, digits, folder, mnist
from optbench.tasks.data.digits import PARTS


class Kind(NamedTuple):
    """What is known of a data set before it is read."""

    size: int
    """Pixels along a side."""
    channels: int
    shift: int
    """How many pixels an image may be moved without losing what it shows."""
    flips: bool
    """Whether an image and its mirror image show the same: not so for digits."""


KINDS = {
    "digits": Kind(8, 1, shift=1, flips=False),
    "mnist": Kind(mnist.SIZE, 1, shift=2, flips=False),
    "cifar10": Kind(cifar10.SIZE, 3, shift=4, flips=True),
}

HELD_OUT = 5000
"""How many of the published training images are kept for validation, at most."""
FILES = {"mnist": mnist, "cifar10": cifar10}
"""The modules that read a data set from a local folder."""


def load(name: str) -> dict[str, np.ndarray]:
    """`train_x` uint8 [n, channels, size, size], `train_y` int32 [n], and so for `validation` and `test`."""
    return read(name, stamps(name))[0]


def data_hash(name: str) -> str:
    return digits.data_hash() if name == "digits" else read(name, stamps(name))[1]


def notes(name: str) -> list[str]:
    return folder.notes(paths(name), FILES[name].LAYOUTS) if name in FILES else []


def paths(name: str) -> list[Path]:
    return folder.locate(FILES[name].NAME, FILES[name].LAYOUTS, FILES[name].WHERE)


def stamps(name: str) -> tuple[folder.Stamp, ...]:
    return folder.stamps(paths(name)) if name in FILES else ()


@functools.lru_cache(maxsize=2)
def read(name: str, files: tuple[folder.Stamp, ...]) -> tuple[dict[str, np.ndarray], str]:
    """The arrays and their digest; the published test part is the test part."""
    if name == "digits":
        arrays = dict(digits.splits())
        for part in PARTS:
            pixels = np.rint(16 * arrays[f"{part}_x"]).astype(np.uint8)
            arrays[f"{part}_x"] = pixels.reshape(-1, 1, KINDS[name].size, KINDS[name].size)
    else:
        (x, y), (test_x, test_y) = FILES[name].read([file.path for file in files])
        held = min(HELD_OUT, len(y) // 5)
        if not held:
            raise UserError(
                f"{name} has {len(y)} training images in '{files[0].path.parent}', of which a fifth is held out. "
                "Give at least 5."
            )
        order = np.random.default_rng(0).permutation(len(y))
        held_out, rest = np.sort(order[:held]), np.sort(order[held:])
        arrays = {"train_x": x[rest], "validation_x": x[held_out], "test_x": test_x}
        arrays |= {"train_y": y[rest], "validation_y": y[held_out], "test_y": test_y}
        arrays |= {key: array.astype(np.int32) for key, array in arrays.items() if key.endswith("_y")}
    return arrays, folder.digest(*arrays.values())
