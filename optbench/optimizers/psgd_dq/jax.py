"""PSGD of psgd_torch as optax transformations; the mathematics is on the pages of `optbench.optimizers.psgd_dq`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optbench.fields import hyper
from optbench.optimizers.adapter import option_names
from optbench.optimizers.psgd import KEY, MASK, SHARED, jax_arrays
from optbench.optimizers.psgd.jax import Factory, finished
from optbench.optimizers.psgd_dq import DenseNewton, KronDQ, LraDQ, Tracked, check_momentum
from optbench.optimizers.psgd_dq.frame import Frame, Held
from optbench.optimizers.psgd_dq.groups import Dense, Kronecker, TrackedGroup, TrackedLowRank
from optbench.protocol import Noise
from optbench.ranges import is_off
from optbench.rules.arguments import SCHEDULED, field, takes
from optbench.rules.optax import KeyNoise, leaf_names
from optbench.rules.optax_transform import check_static, checked, unmasked


def factory(declared: type[Tracked], group: type[TrackedGroup], summary: str) -> Factory:
    """The factory of a method, which takes its fields by name."""

    def make(
        learning_rate: Any, weight_decay: Any, mask: Any, noise: Noise | None, seed: Any, **given: Any
    ) -> optax.GradientTransformationExtraArgs:
        options = {"mode": declared.mode, **given}
        check_momentum(declared.name, options)
        check_static(declared.name, **{name: options[name] for name in group.own.split()})
        source = KeyNoise.seeded(seed) if noise is None else noise
        frame = Frame(group(jax_arrays, options), SimpleNamespace(**options), source)
        return finished(transformation(declared.name, frame), learning_rate, weight_decay, mask)

    make.__name__ = make.__qualname__ = declared.name
    make.__doc__ = f"""PSGD {summary}, as in psgd_torch.

In hessian mode `update` also takes `Hvp`, `vector` and `update_preconditioner`, which
`optbench.optimizers.psgd.jax.hessian_helper` gives. Weight decay needs `params`.

Raises:
    ValueError: a hyperparameter is out of its range, or `update` misses an argument.
"""
    arguments = takes(
        declared,
        f"learning_rate * {' '.join(option_names(declared))} mask seed noise",
        learning_rate=field(declared, "learning_rate", doc=SCHEDULED, bounds=None),
        mask=MASK,
        seed=hyper(0, KEY),
        noise=SHARED["noise"],
    )
    return arguments(make)


def transformation(owner: str, frame: Frame) -> optax.GradientTransformationExtraArgs:
    group, options = frame.group, frame.options

    def init(params: Any) -> Any:
        units = group.units(jax.tree.leaves(params))
        mu = None if is_off(options.momentum) else [jnp.zeros_like(unit) for unit in units]
        fresh = [jnp.asarray(True) for _ in units]
        return Held(jnp.zeros((), jnp.int32), mu, fresh, [frame.first(unit) for unit in units])

    def update(
        updates: Any, state: Any, params=None, *, Hvp=None, vector=None, update_preconditioner=None, **_: Any
    ) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(updates)
        if options.mode == "hessian":
            if Hvp is None or vector is None or update_preconditioner is None:
                raise ValueError(
                    f"{owner}: hessian mode needs Hvp, vector and update_preconditioner in update"
                )
            hvps, vectors = (jax.tree.leaves(unmasked(updates, each)) for each in (Hvp, vector))
            due, curvature = update_preconditioner, (hvps, vectors)
        else:
            due, curvature = frame.due(state.count), None
        names = ["all"] if group.whole else leaf_names(updates)
        done, held = frame.step(state, names, leaves, due, curvature)
        return structure.unflatten(done), held

    return checked(owner, optax.GradientTransformationExtraArgs(init, update))


kron_dq = factory(KronDQ, Kronecker, "Kron: a factor for each axis of each leaf, in a geometry dQ")
lra_dq = factory(LraDQ, TrackedLowRank, "LRA: Q = (I + U V^T) diag(d) on all leaves as one vector")
dense_newton = factory(DenseNewton, Dense, "with one matrix for all leaves as one vector, in a geometry dQ")
