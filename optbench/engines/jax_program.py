"""One lane as pure functions, and the programs that run many of them: side by side, one after the other, or one.

A program is four functions over a flat carry: init(lanes, shared), chunk(carry, lanes, shared, ...),
settled(carry, lanes, shared), which gives the parameters that are evaluated, and evaluate(params, lanes, shared). The
last one knows no optimizer, so that all optimizers of a task share its compiled form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from optbench.cell import Cell
from optbench.engines.lanes import BLOCK
from optbench.metrics import Metric
from optbench.protocol import Counts, Setting
from optbench.rules.optax import AskingRule, KeyNoise


class JaxObjective:
    """This batch's loss as a function of the parameters."""

    def __init__(self, loss: Callable[[Any], jax.Array]):
        self.value = loss

    def value_and_grad(self, params: Any) -> tuple[Any, Any]:
        return jax.value_and_grad(self.value)(params)

    def value_grad_hvp(self, params: Any, vector: Any) -> tuple[Any, Any, Any]:
        """Forward over reverse: one pass gives loss, gradient and H v, for less than three gradients."""
        (loss, grads), (_, hvp) = jax.jvp(jax.value_and_grad(self.value), (params,), (vector,))
        return loss, grads, hvp


class Lane:
    """One lane as pure functions; `shared` is the same for all lanes, `lane` is this one's row of the inputs."""

    def __init__(self, cell: Cell, metrics: Sequence[Metric] = ()):
        self.optimizer, self.steps, self.twinned = cell.optimizer, cell.steps, cell.twin is not None
        (self.loss, self.evaluated), self.metrics = cell.task.jax(), metrics
        self.roles = cell.task.roles()

    def rule(self, lane: Any, shared: Any) -> Any:
        """The optimizer's rule with this lane's numbers, noise and the schedule's table bound into it."""

        def factor(t: Any) -> jax.Array:
            return shared["factors"][t - shared["base"]]

        setting = Setting(factor, KeyNoise.seeded(lane["noise"]), self.steps, self.roles)
        made = self.optimizer.bind(lane["numbers"]).jax(setting)
        return made if hasattr(made, "step") else AskingRule(made)  # pyright: ignore[reportArgumentType]

    def objective(self, lane: Any, shared: Any, t: Any) -> JaxObjective:
        index = t - shared["base"]
        draw = {name: table[lane["slot"], index] for name, table in shared["draws"].items()}
        return JaxObjective(lambda params: self.loss(params, shared["data"], draw))

    def init(self, lane: Any, shared: Any) -> Any:
        # The first gradient is rounded like every other, so a twin is moved before it too.
        params = nudged(lane["params"], lane["twin"], self.steps) if self.twinned else lane["params"]
        zero = jnp.zeros((), jnp.int32)
        return {
            "params": params,
            "state": self.rule(lane, shared).init(params),
            "counts": Counts(zero, zero, zero),
        }

    def step(self, carry: Any, lane: Any, shared: Any, t: Any) -> tuple[Any, Any]:
        """One step: the new carry and the loss before it."""
        objective = self.objective(lane, shared, t)
        rule = self.rule(lane, shared)
        params, state, loss, used = rule.step(carry["params"], carry["state"], objective, t)
        counts = [a + jnp.asarray(b, jnp.int32) for a, b in zip(carry["counts"], used, strict=True)]
        params = nudged(params, lane["twin"], t) if self.twinned else params
        return {"params": params, "state": state, "counts": Counts(*counts)}, loss

    def settled(self, carry: Any, lane: Any, shared: Any) -> Any:
        """The parameters that the rule evaluates."""
        return self.rule(lane, shared).evaluated(carry["params"], carry["state"])

    def evaluate(self, params: Any, lane: Any, shared: Any) -> dict[str, jax.Array]:
        """Every metric."""
        metrics = self.evaluated(params, shared["data"])
        if self.metrics:
            draw = {name: table[lane["slot"]] for name, table in shared["first"].items()}
            objective = JaxObjective(lambda params: self.loss(params, shared["data"], draw))
            metrics = metrics | {metric.name: metric.function(params, objective) for metric in self.metrics}
        return metrics


def nudged(params: Any, twin: Any, t: Any) -> Any:
    """Each parameter times 1 +- one rounding, in directions that the twin draws at t; twin 0 is left alone."""
    draws = KeyNoise.seeded(twin).normals("twin", t, params)

    def one(draw: Any, leaf: Any) -> Any:
        size = jnp.where(twin > 0, jnp.finfo(leaf.dtype).eps, 0).astype(leaf.dtype)
        return leaf * (1 + size * jnp.sign(draw))

    return {name: one(draws[name], leaf) for name, leaf in params.items()}


def touched(lane: Lane, lanes: Any, shared: Any) -> list[bool]:
    """Which leaves of the carry differ between lanes, by tracing two steps under vmap.

    An identity has a batching rule that reports what reaches it batched. Leaves that never do are counters that all
    lanes share, and batching them would turn every branch on them into a select.
    """
    seen: list[list[bool]] = []

    @custom_vmap
    def watch(leaves: list[Any]) -> list[Any]:
        return leaves

    @watch.def_vmap
    def _(size: int, batched: Any, leaves: Any) -> tuple[Any, Any]:
        seen.append(list(batched[0]))
        return leaves, batched[0]

    def trace(one: Any) -> Any:
        carry, structure = jax.tree.flatten(lane.init(one, shared))
        for t in range(2):
            carry = structure.unflatten(watch(carry))
            carry = jax.tree.leaves(lane.step(carry, one, shared, shared["base"] + t)[0])
        return watch(carry)

    jax.eval_shape(jax.vmap(trace), lanes)
    return [any(leaf) for leaf in zip(*seen, strict=True)]


Functions = tuple[Callable, Callable, Callable, Callable]


def functions(mode: str, lane: Lane, structure: Any, loss: Any, axes: list[int | None] | None) -> Functions:
    """A program of a mode; `loss`: the dtype of one, `axes`: where a carry has lanes, if it has."""

    def init(one: Any, shared: Any) -> list[Any]:
        return jax.tree.leaves(lane.init(one, shared))

    def step(carry: list[Any], one: Any, shared: Any, t: Any) -> tuple[list[Any], Any]:
        new, loss = lane.step(structure.unflatten(carry), one, shared, t)
        return jax.tree.leaves(new), loss

    def counted(carry: list[Any], one: Any, shared: Any, t: Any) -> tuple[list[Any], Any, Any]:
        # It counts the step too: nothing but the carry is made between two of them.
        new, loss = step(carry, one, shared, t)
        return new, t + 1, loss

    def settled(carry: list[Any], one: Any, shared: Any) -> Any:
        return lane.settled(structure.unflatten(carry), one, shared)

    if mode == "loop":
        return init, counted, settled, lane.evaluate
    if axes is None:
        return init, repeated(step, loss), settled, lane.evaluate
    if mode == "map":
        return in_turn(init, step, settled, lane.evaluate, loss)
    stepped = jax.vmap(step, in_axes=(axes, 0, None, None), out_axes=(axes, 0))
    return (
        jax.vmap(init, in_axes=(0, None), out_axes=axes),
        repeated(stepped, loss),
        jax.vmap(settled, in_axes=(axes, 0, None)),
        jax.vmap(lane.evaluate, in_axes=(0, 0, None)),
    )


def repeated(step: Callable[..., Any], loss: Any) -> Callable[..., Any]:
    """The steps from `start` to before `stop`, and the losses before each, of this dtype, in a buffer for a block."""

    def chunk(carry: list[Any], row: Any, shared: Any, start: Any, stop: Any) -> tuple[list[Any], Any]:
        def body(t: Any, state: Any) -> Any:
            leaves, losses = state
            leaves, loss = step(leaves, row, shared, t)
            return leaves, write(losses, loss, t - start)

        losses = jnp.zeros((BLOCK, *row["slot"].shape), loss)
        return jax.lax.fori_loop(start, stop, body, (carry, losses))

    return chunk


def in_turn(init: Callable, step: Callable, settled: Callable, evaluate: Callable, loss: Any) -> Functions:
    """The same of the first `count` lanes, one after the other in one call, since calls cost as much as small steps.

    In place: `lax.map` would copy the carry and the losses, which costs more than a hundred such steps.
    """

    def each(function: Callable[[Any], Any], rows: Any, shared: Any) -> Any:
        """A function of each row; zeros after the first `count`."""

        def run(i: Any, made: Any) -> Any:
            one = function(jax.tree.map(lambda array: array[i], rows))
            return jax.tree.map(lambda all_of, its: write(all_of, jnp.asarray(its), i), made, one)

        example = jax.eval_shape(function, jax.tree.map(lambda array: array[0], rows))
        size = len(jax.tree.leaves(rows)[0])
        made = jax.tree.map(lambda its: jnp.zeros((size, *its.shape), its.dtype), example)
        return jax.lax.fori_loop(0, shared["count"], run, made)

    def chunk(carry: list[Any], lanes: Any, shared: Any, start: Any, stop: Any) -> tuple[list[Any], Any]:
        def run(i: Any, both: Any) -> Any:
            carry, losses = both
            leaves, one = jax.tree.map(lambda array: array[i], (carry, lanes))

            def body(t: Any, state: Any) -> Any:
                leaves, losses = state
                leaves, loss = step(leaves, one, shared, t)
                return leaves, write(losses, loss, t - start, i)

            leaves, losses = jax.lax.fori_loop(start, stop, body, (leaves, losses))
            return [write(all_of, leaf, i) for all_of, leaf in zip(carry, leaves, strict=True)], losses

        losses = jnp.zeros((BLOCK, len(lanes["slot"])), loss)
        return jax.lax.fori_loop(0, shared["count"], run, (carry, losses))

    return (
        lambda lanes, shared: each(lambda one: init(one, shared), lanes, shared),
        chunk,
        lambda carry, lanes, shared: each(lambda both: settled(*both, shared), (carry, lanes), shared),
        lambda params, lanes, shared: each(lambda both: evaluate(*both, shared), (params, lanes), shared),
    )


def write(into: jax.Array, values: jax.Array, *place: Any) -> jax.Array:
    """Put values at a place along the first axes.

    `into.at[place].set(values)` would be a scatter, which costs more than a step of a small task.
    """
    block = values.reshape((1,) * len(place) + into.shape[len(place) :])
    corner = [jnp.asarray(i, jnp.int32) for i in (*place, *[0] * (into.ndim - len(place)))]
    return jax.lax.dynamic_update_slice(into, block, corner, allow_negative_indices=False)
