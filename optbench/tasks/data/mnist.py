"""MNIST from a local folder: 70,000 handwritten digits of 28 x 28 pixels (LeCun et al. 1998), in idx files.

The files may be packed (.gz). Those of Fashion-MNIST and other sets in the same form can be read too.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from optbench.fields import UserError
from optbench.lazy import np
from optbench.tasks.data import folder
from optbench.tasks.data.folder import Labelled, labelled

NAME = "MNIST"
WHERE = (
    "Get train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz from https://ossci-datasets.s3.amazonaws.com/mnist/."
)
SIZE = 28
IMAGES, LABELS = 0x0803, 0x0801
"""What an idx file begins with: unsigned bytes (08) in 3 dimensions or 1, as a big-endian number."""

FOLDERS = ("mnist", "MNIST/raw", ".")
CHECKSUMS = {
    "train-images-idx3-ubyte": ("6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "train-labels-idx1-ubyte": ("a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"),
    "t10k-images-idx3-ubyte": ("2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"),
    "t10k-labels-idx1-ubyte": ("27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"),
}
"""Of the file, and of it packed."""
UNPACKED = folder.Layout(FOLDERS, {name: md5 for name, (md5, _) in CHECKSUMS.items()})
PACKED = folder.Layout(FOLDERS, {f"{name}.gz": md5 for name, (_, md5) in CHECKSUMS.items()})
DOTTED = folder.Layout(
    FOLDERS, {name.replace("-idx", ".idx"): md5 for name, md5 in UNPACKED.checksums.items()}
)
LAYOUTS = (UNPACKED, PACKED, DOTTED)


def read(paths: Sequence[Path]) -> tuple[Labelled, Labelled]:
    train_images, train_labels, test_images, test_labels = paths
    return pair(train_images, train_labels), pair(test_images, test_labels)


def pair(images: Path, labels: Path) -> Labelled:
    pixels, classes = array(images, IMAGES), array(labels, LABELS)
    if pixels.shape[1:] != (SIZE, SIZE):
        raise UserError(
            f"'{images}' holds images of {pixels.shape[1]} x {pixels.shape[2]} pixels; {SIZE} x {SIZE} are expected. "
            "Give the files of MNIST or of a set in its form."
        )
    if len(pixels) != len(classes):
        raise UserError(
            f"'{images}' holds {len(pixels):,} images and '{labels}' {len(classes):,} labels. "
            "They do not belong together: download both again."
        )
    return labelled(labels, pixels[:, None], classes)


def array(path: Path, magic: int) -> np.ndarray:
    """The array of an idx file, packed or not."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"'{path}' cannot be unpacked: {error}. Download it again.") from None
    begin = int.from_bytes(raw[:4], "big")
    if len(raw) < 4 or begin != magic:
        raise UserError(
            f"'{path}' does not begin with the number {magic:#06x} of an idx file of "
            f"{'images' if magic == IMAGES else 'labels'} but with {begin:#06x}. It is another file: download it again."
        )
    dims = magic & 0xFF
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
    values = len(raw) - 4 - 4 * dims
    if not shape[0] or int(np.prod(shape, dtype=object)) != values:
        raise UserError(
            f"'{path}' declares {' x '.join(map(str, shape))} bytes and holds {max(0, values):,}. "
            "It was cut short or is another file: download it again."
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)
