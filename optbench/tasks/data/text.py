"""Text to predict: English that comes with the package, or a file in a local folder.

`pydoc`: 37 topics of Python 3.11's `help()`, 67,029 characters, joined in the order of their names. They lie
here as a file because newer Pythons word and mark them differently, and a cell must mean the same on each.
`shakespeare`: the tiny Shakespeare of char-rnn. Any other name is a file in the data folder: `.txt` is UTF-8
text, a character a token; `.bin` is tokens, unsigned 16-bit numbers as nanoGPT writes them.
"""

from __future__ import annotations

import functools
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from optbench.fields import UserError
from optbench.lazy import np
from optbench.tasks.data import folder
from optbench.tasks.data.digits import PARTS

PYDOC = Path(__file__).parent / "pydoc.txt"
PYDOC_SHA256 = "8ca1fa48bc85451aa13ffc62f2ea76cf479e8e3affb3ddc8ce96d4c217c0bd15"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SHAKESPEARE = (
    folder.Layout(("tinyshakespeare", "shakespeare_char", "."), {"input.txt": SHAKESPEARE_SHA256}),
    folder.Layout((".",), {"tinyshakespeare.txt": SHAKESPEARE_SHA256}),
)
SHAKESPEARE_WHERE = (
    "Get it from https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt."
)
SPLIT = (0.8, 0.1, 0.1)
"""The shares of training, validation and test part, which follow each other in the text."""
PRIOR = 10.0
"""How many observations the next shorter context counts for in an n-gram baseline."""
COUNTED = 2_000_000
"""Tokens of the training part that a baseline is counted on, at most; of the validation part, a tenth of it."""


class Text(NamedTuple):
    """A text as numbers."""

    tokens: np.ndarray
    """Whole numbers below `vocabulary`, [n]."""
    vocabulary: int

    def parts(self) -> dict[str, np.ndarray]:
        """Training, validation and test part, each without a gap."""
        first = int(SPLIT[0] * len(self.tokens))
        second = first + int(SPLIT[1] * len(self.tokens))
        return dict(zip(PARTS, np.split(self.tokens, [first, second]), strict=True))


def load(name: str) -> Text:
    return read(name, stamp(name))[0]


def data_hash(name: str) -> str:
    return read(name, stamp(name))[1]


def baseline(name: str, order: int) -> float:
    """Nats per token of the validation part under an n-gram model of the training part (`order` = n).

    The probability of a token after its context is the share of its counts there, to which the model with a
    context one shorter adds `PRIOR` counts: a hierarchical Dirichlet prior (doi:10.1017/S1351324900000218).
    """
    return ngram(name, stamp(name), order)


def notes(name: str) -> list[str]:
    return folder.notes([stamp(name).path], SHAKESPEARE) if name == "shakespeare" else []


def stamp(name: str) -> folder.Stamp:
    if name == "pydoc":
        return folder.Stamp(PYDOC, 0, 0)
    if name == "shakespeare":
        return folder.stamps(folder.locate("tiny Shakespeare", SHAKESPEARE, SHAKESPEARE_WHERE))[0]
    path, known = PurePosixPath(name), "pydoc, shakespeare, or a file .txt or .bin in the folder of --data"
    if path.suffix not in (".txt", ".bin"):
        raise UserError(f"Unknown text {name!r}. Use one of: {known}.")
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"text {name!r} is outside the data folder. Give the folder with --data DIR and the name in it."
        )
    layout = folder.Layout((str(path.parent),), {path.name: ""})
    source = "Put it there, or name another folder with --data DIR."
    return folder.stamps(folder.locate("text", [layout], source))[0]


@functools.lru_cache(maxsize=4)
def read(name: str, file: folder.Stamp) -> tuple[Text, str]:
    text = numbers(file.path) if file.path.suffix == ".bin" else characters(file.path)
    if name == "pydoc" and not folder.has(file, PYDOC_SHA256):
        raise UserError(
            f"'{file.path}' was changed: results would be stored under the wrong text. Reinstall optbench."
        )
    return text, folder.digest(text.tokens)


def characters(path: Path) -> Text:
    """Each character a token; numbered in the order of Unicode."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"'{path}' is not UTF-8 text (byte {error.start:,}: {error.reason}). "
            "Write it in UTF-8, or give tokens as a .bin file."
        ) from None
    if not text:
        raise UserError(f"'{path}' is empty. Give a file with text.")
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    known, tokens = np.unique(codes, return_inverse=True)
    return Text(tokens.astype(np.uint16 if len(known) < 2**16 else np.int32), len(known))


def numbers(path: Path) -> Text:
    """Little-endian unsigned 16-bit tokens; the vocabulary reaches to the largest of them."""
    size = path.stat().st_size
    if size == 0 or size % 2:
        what = "is empty" if size == 0 else f"has {size:,} bytes, not a multiple of two (16-bit tokens)"
        raise UserError(
            f"'{path}' {what}. Write it as nanoGPT does: numpy.array(tokens, dtype='<u2').tofile(...)."
        )
    tokens = np.memmap(path, "<u2", mode="r")
    return Text(tokens, int(tokens.max()) + 1)


@functools.lru_cache(maxsize=64)
def ngram(name: str, file: folder.Stamp, order: int) -> float:
    """`baseline` of a file as it is now."""
    text = read(name, file)[0]
    parts = text.parts()
    train, held_out = parts["train"][:COUNTED], parts["validation"][: COUNTED // 10]
    likely = np.full(len(held_out), 1 / text.vocabulary)
    for n in range(1, order + 1):
        seen, wanted = windows(train, n, text.vocabulary), windows(held_out, n, text.vocabulary)
        full, context = counted(seen, wanted), counted(seen // text.vocabulary, wanted // text.vocabulary)
        likely = (full + PRIOR * likely[-len(wanted) :]) / (context + PRIOR)
    return float(-np.log(likely).mean())


def windows(tokens: np.ndarray, n: int, vocabulary: int) -> np.ndarray:
    """Each run of n tokens as one number; four tokens of 16 bits just fit."""
    count = len(tokens) - n + 1
    runs = np.zeros(count, np.uint64)
    for i in range(n):
        runs = runs * np.uint64(vocabulary) + tokens[i : i + count].astype(np.uint64)
    return runs


def counted(seen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How often each of `wanted` is among `seen`."""
    values, counts = np.unique(seen, return_counts=True)
    at = np.searchsorted(values, wanted).clip(max=len(values) - 1)
    return np.where(values[at] == wanted, counts[at], 0)
