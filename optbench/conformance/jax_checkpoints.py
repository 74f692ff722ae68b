"""orbax: saved on 8 devices, loaded on 2 and on 1, the path goes on as if nothing had been."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import jax

from optbench.conformance.jax import Subject
from optbench.conformance.jax_sharding import path_of
from optbench.conformance.jax_use import needed
from optbench.conformance.problem import ROWS, apart

WARM = 3


def abstract(tree: Any) -> Any:
    """What orbax is told of what it loads: shapes, dtypes and shardings."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def resumed(subject: Subject, size: int) -> str:
    orbax = needed("orbax.checkpoint")
    with jax.enable_x64(True), tempfile.TemporaryDirectory() as folder, orbax.StandardCheckpointer() as files:
        one, many = path_of(subject), path_of(subject, (8,))
        few = path_of(subject, (size,))
        warm, rest, place = range(WARM), range(WARM, ROWS), Path(folder) / "checkpoint"
        _, before = many.go(steps=warm)
        files.save(place, before)
        files.wait_until_finished()
        whole, _ = many.go(steps=rest, at=before)
        again, _ = few.go(steps=rest, at=files.restore(place, abstract((few.params, few.state))))
        alone, twin = subject.once(
            "checkpoints", lambda: [one.go(nudged, range(ROWS))[0][-1] for nudged in (False, True)]
        )
    gap, growth = apart(whole[-1], again[-1]), max(apart(alone, twin), 1e-16)
    assert gap <= 10 * growth, (
        f"Saved on 8 devices after {WARM} steps and loaded on {size}, it is {gap:.1e} off after {len(rest)} more; "
        f"rounding carries a path {growth:.1e}."
    )
    return f"Saved on 8 devices and loaded on {size} it goes on as it was."


check_orbax_2 = functools.partial(resumed, size=2)
check_orbax_1 = functools.partial(resumed, size=1)
