"""orbax: saved on 8 devices, loaded on 2 and on 1, the path goes on as if nothing had been."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import jax

from optbench.conformance import problem
from optbench.conformance.jax import Subject
from optbench.conformance.jax_sharding import path_of
from optbench.conformance.jax_use import needed
from optbench.conformance.problem import ROWS, apart

WARM = 3


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
        # What orbax is told of what it loads.
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), (few.params, few.state)
        )
        again, _ = few.go(steps=rest, at=files.restore(place, wanted))
        alone, twin = subject.once(
            "checkpoints", lambda: [one.go(nudged, range(ROWS))[0][-1] for nudged in (False, True)]
        )
    growth = max(apart(alone, twin), 1e-16)
    return problem.resumed("8 devices", size, whole[-1], again[-1], growth, WARM, len(rest))


check_orbax_2 = functools.partial(resumed, size=2)
check_orbax_1 = functools.partial(resumed, size=1)
