"""Small data files in the real formats, whole and damaged, as a data folder would hold them."""

import gzip
import struct
from pathlib import Path

import numpy as np

CIFAR_FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
MNIST_FILES = {
    "train-images-idx3-ubyte": 40,
    "train-labels-idx1-ubyte": 40,
    "t10k-images-idx3-ubyte": 10,
    "t10k-labels-idx1-ubyte": 10,
}


def cifar_batch(name: str, images: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n, 3072] and labels [n] that depend on the file's name."""
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(256, size=(images, 3072), dtype=np.uint8), rng.integers(
        10, size=images, dtype=np.uint8
    )


def cifar_binary(folder: Path, images: int = 8) -> Path:
    """`cifar-10-batches-bin` with small batches."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    for name in CIFAR_FILES:
        pixels, labels = cifar_batch(name, images)
        (place / f"{name}.bin").write_bytes(np.concatenate([labels[:, None], pixels], axis=1).tobytes())
    return place


def cifar_python(folder: Path, images: int = 8) -> Path:
    """`cifar-10-batches-py` as Python 2 and its NumPy pickled it: protocol 2, strings of bytes."""
    place = folder / "cifar-10-batches-py"
    place.mkdir(parents=True)
    for name in CIFAR_FILES:
        (place / name).write_bytes(python_batch(*cifar_batch(name, images)))
    return place


def python_batch(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """A dict with `data`, `labels`, `batch_label` and `filenames`, opcode by opcode."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"J" + struct.pack("<i", value)

    rows, columns = pixels.shape
    raw = pixels.tobytes()
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + number(0)
        + b"\x85"
        + text(b"b")
        + b"\x87R"
    )
    kind = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    order = b"(" + number(3) + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + number(0) + b"tb"
    shape = number(rows) + number(columns) + b"\x86"
    filled = b"(" + number(1) + shape + kind + order + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    parts = {
        b"batch_label": text(b"training batch"),
        b"labels": b"](" + b"".join(number(int(label)) for label in labels) + b"e",
        b"data": empty + filled,
        b"filenames": b"](" + b"".join(text(b"a.png") for _ in labels) + b"e",
    }
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in parts.items()) + b"u."


def mnist_arrays() -> dict[str, np.ndarray]:
    """Images [n, 28, 28] and labels [n] by file."""
    arrays = {}
    for name, count in MNIST_FILES.items():
        rng = np.random.default_rng(list(name.encode()))
        shape, top = ((count, 28, 28), 256) if "images" in name else ((count,), 10)
        arrays[name] = rng.integers(top, size=shape, dtype=np.uint8)
    return arrays


def idx(array: np.ndarray) -> bytes:
    """An idx file of unsigned bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist(folder: Path, packed: bool = False) -> Path:
    """The four files, packed or not."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in mnist_arrays().items():
        raw = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(raw, mtime=0) if packed else raw
        )
    return folder


class Runs:
    """Pickles to a call; if the call is made, a file named `ran` is there."""

    def __reduce__(self):
        return eval, ("open('ran', 'w').close()",)
