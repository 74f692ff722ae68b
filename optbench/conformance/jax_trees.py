"""Parameters and gradients that are seldom: odd shapes, no gradient, spikes, NaN, other dtypes, complex numbers."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.conformance import assume, problem
from optbench.conformance.jax import STEPS, Objective, Subject, last
from optbench.conformance.problem import ODD, PAIR, Shapes, worded


def moves_well(
    subject: Subject, shapes: Shapes, what: str, dtype: Any = jnp.float32, weight: float = 1.0
) -> None:
    path = subject.path(shapes=shapes, dtype=dtype, weights={name: np.full(STEPS, weight) for name in shapes})
    for name, start in subject.start(shapes, dtype).items():
        moves = jnp.dtype(dtype).itemsize > 2
        problem.steps_well(what, np.asarray(start, float), path[name][-1], moves)


def check_shapes(subject: Subject) -> str:
    *each, together = ODD
    try:
        moves_well(subject, together, "Parameters of all shapes together")
    except Exception:  # then the smallest that shows it
        for shapes in each:
            moves_well(subject, shapes, f"Parameters {worded(shapes)}")
        raise
    return f"It steps {', '.join(worded(shapes) for shapes in each)} together."


def check_silent(subject: Subject) -> str:
    """2,000 steps on which one leaf has a gradient of zeros; then all have one."""
    weights = {"b": (np.arange(2005) >= 2000).astype(float), "w": np.ones(2005)}
    path = subject.path(rows=range(2005), weights=weights)
    for name, shape in PAIR.items():
        ill = np.argwhere(~np.isfinite(path[name].reshape(2005, -1)).all(1))
        assert not len(ill), (
            f"A leaf [2] has a gradient of zeros for 2,000 steps, and then another: {list(shape)} is not finite "
            f"from step {int(ill[0, 0]) + 1} on."
        )
    return "A gradient that is zero for 2,000 steps, and then returns, does no harm."


def check_spike(subject: Subject) -> str:
    weights = {name: [1, 1, 1, 1e6, *[1] * 6] for name in PAIR}
    return problem.spiked(last(subject.path(rows=range(10), weights=weights)))


def check_nan(subject: Subject) -> str:
    path = subject.path(rows=range(10), weights={name: [1, 1, 1, math.nan, *[1] * 6] for name in PAIR})
    return problem.survived({name: value[4] for name, value in path.items()}, last(path))


def in_dtype(subject: Subject, dtype: Any) -> str:
    short = jnp.dtype(dtype).name
    moves_well(subject, PAIR, f"In {short}, with gradients of 1e-3", dtype, 1e-3)
    path = subject.path(weights={"b": np.zeros(STEPS), "w": np.ones(STEPS)}, dtype=dtype)
    return problem.steps_in(short, last(path), STEPS, dead="b")


check_float16 = functools.partial(in_dtype, dtype=jnp.float16)
check_bfloat16 = functools.partial(in_dtype, dtype=jnp.bfloat16)


def check_float64(subject: Subject) -> str:
    with jax.enable_x64(True):
        return in_dtype(subject, jnp.float64)


class Bowl(Objective):
    """|z - least|^2 / 2, with the gradient that descends; jax.grad gives its conjugate."""

    def __init__(self, least: Any):
        super().__init__(lambda params: (jnp.abs(params["z"] - least) ** 2).sum() / 2)
        self.least = least

    def value_and_grad(self, params: Any) -> Any:
        return self.value(params), {"z": params["z"] - self.least}


def check_complex(subject: Subject) -> str:
    """Complex parameters: as their real and imaginary parts, or alike in every direction of the plane; or refused."""
    assume(not subject.differentiates, "Its steps take more than a gradient.")
    made = subject.transform()
    line = jnp.linspace(-1, 1, 12, dtype=jnp.float32).reshape(2, 3, 2)
    first, least = jax.lax.complex(line[0], line[1]), jax.lax.complex(1 - line[1], line[0])

    def path(first: Any, least: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            return subject.updated(made, carry[0], carry[1], Bowl(least), 0), None

        params = {"z": first}
        return jax.lax.scan(body, (params, made.init(params)), length=5)[0][0]["z"]

    plain = np.asarray(jax.jit(path)(first, least))
    turned = np.asarray(jax.jit(path)(first * 1j, least * 1j)) / 1j
    both = jax.jit(path)(*(jnp.stack([jnp.real(z), jnp.imag(z)], -1) for z in (first, least)))
    parts = np.asarray(both[..., 0] + 1j * both[..., 1])
    gaps = [float(np.abs(other - plain).max() / np.abs(plain).max()) for other in (parts, turned)]
    return problem.in_the_plane(np.asarray(first), plain, *gaps, most=1e-4)
