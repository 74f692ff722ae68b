"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels, here without a download.

Read from the file inside the installed package, because importing scikit-learn takes longer than a
quickstart's first row may.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from optbench.fields import UserError
from optbench.lazy import np

PARTS = ("train", "validation", "test")
CLASSES = 10
PIXELS = 64
SOURCE = (
    "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (test part); scikit-learn"
)


@functools.cache
def path() -> Path:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UserError("the digits need scikit-learn, which is not installed. Try: pip install scikit-learn")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


@functools.cache
def data_hash() -> str:
    return hashlib.sha256(path().read_bytes()).hexdigest()[:16]


@functools.cache
def splits() -> dict[str, np.ndarray]:
    """Images in [0, 1], float64 [n, 64], and labels of a fixed stratified 60 / 20 / 20 split."""
    table = np.loadtxt(path(), delimiter=",")
    images, labels = table[:, :-1] / 16.0, table[:, -1].astype(np.int32)
    parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        members = rng.permutation(np.flatnonzero(labels == label))
        first, second = round(0.6 * len(members)), round(0.8 * len(members))
        for part, chosen in zip(parts, np.split(members, [first, second]), strict=True):
            parts[part].append(chosen)
    arrays = {}
    for part, chosen in parts.items():
        rows = np.sort(np.concatenate(chosen))
        arrays[f"{part}_x"], arrays[f"{part}_y"] = images[rows], labels[rows]
    return arrays
