"""Which rows each step sees, drawn in NumPy from the seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optbench.task import stream

if TYPE_CHECKING:
    import numpy as np


def permutations(seed: int, start: int, stop: int, rows: int, batch: int) -> np.ndarray:
    """Rows of each step's batch, int32 [steps, batch]: a new permutation each epoch, the remainder dropped.

    Pure in (seed, step), so a resumed run sees the same batches.
    """
    import numpy as np

    per_epoch = rows // batch
    first, last = start // per_epoch, (stop - 1) // per_epoch
    epochs = [
        stream(seed, f"batches/{epoch}").permutation(rows)[: per_epoch * batch].reshape(per_epoch, batch)
        for epoch in range(first, last + 1)
    ]
    offset = start - first * per_epoch
    return np.concatenate(epochs)[offset : offset + stop - start].astype(np.int32)
