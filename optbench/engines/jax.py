"""Lanes in JAX: cells that differ only in numbers run as lanes of one compiled program.

Three modes, and when they pay:

- `vmap`: lanes side by side in one vectorised step, for steps too small to fill the machine. Bits depend on
  the width, so it is fixed and groups are padded to it. With leaves of 2 to 8 numbers they depend on the
  lane's index in the group too (LLVM ends loops over such strides with scalar steps, which round otherwise); a plan
  gives those to `map`. Leaves of the carry that no lane touches (step counters) stay unbatched, so that
  `lax.cond` on them remains a branch.
- `map`: lanes one after the other, each a call of one compiled chunk of steps (of small steps all lanes are one call);
  each has the bits it has alone, and a program that was made for one lane runs any number.
- `loop`: one jitted step of one lane, called from Python without waiting for it, for what must not be inside a
  compiled loop (convolutions on CPU).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optbench.engines.jax_device import device_facts as device_facts
from optbench.engines.jax_device import entered, fetched, placed, product
from optbench.engines.jax_device import watch_memory as watch_memory
from optbench.engines.jax_program import Lane, functions, touched
from optbench.engines.jax_task import loop_facts
from optbench.engines.jax_task import tried as tried
from optbench.engines.lanes import BLOCK, WIDTH, Backend, Engine, Inputs
from optbench.engines.measured import Stopwatch
from optbench.metrics import Metric
from optbench.protocol import Counts

OLDER = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 2}
"""XLA's older emitters for CPUs, and LLVM's level below the highest: half the time to compile, or less."""
SMALL = 5e7
"""FLOP between two evaluations, in a run of the task's own length, up to which a call for each lane costs too much."""


class JaxBackend(Backend):
    """Advances units of lanes by one compiled program: of lanes side by side, or of small steps, all are one unit."""

    def __init__(
        self, inputs: Inputs, mode: str, device: Any, width: int = WIDTH, metrics: Sequence[Metric] = ()
    ):
        self.lane = Lane(inputs.cell, metrics)
        self.numbers: dict[int, jax.Array] = {}
        task = inputs.cell.task
        between = task.flops() * task.horizon / max(1, len(task.evaluation_steps(task.horizon)))
        self.together = mode == "vmap" or (mode == "map" and between <= SMALL)
        self.slots = -(-len(inputs.seeds) // 8) * 8
        """Seeds that a unit of lanes has room for: a round number, so that other runs find the program compiled."""
        width = width if mode == "vmap" else -(-len(inputs.cells) // 32) * 32
        super().__init__(inputs, mode, device, width, metrics)
        if device.platform == "cpu":
            self.facts |= loop_facts(inputs.cell, mode, self.put)
        with Stopwatch() as compiling:
            self.compile()
        self.facts |= compiling.facts("compile")

    def put(self, tree: Any) -> Any:
        return placed(tree, self.inputs.cell.dtype, self.device)

    def fits(self, cells: int, seeds: int) -> bool:
        return not self.together or (cells <= self.width and seeds <= self.slots)

    def load(self, inputs: Inputs) -> None:
        """The units, and the rows that a step of each needs: it costs more with each array that it is called with."""
        super().load(inputs)
        self.count, lanes = len(inputs.cells), inputs.lane_arrays()
        self.seeds = [(slot,) for slot in lanes["slot"].tolist()]
        if self.together:
            self.seeds = [tuple(range(len(inputs.seeds)))]
            self.units = [self.put(taken(lanes, np.resize(np.arange(self.count), self.width)))]
        else:
            alone = lanes | {"slot": np.zeros_like(lanes["slot"])}
            self.units = [self.put(taken(alone, i)) for i in range(self.count)]
        self.rows = [{name: unit[name] for name in unit if name != "params"} for unit in self.units]
        self.prepare(0)

    def put_block(self, block: dict[str, Any]) -> None:
        """Each unit has the draws of its seeds beside what all share."""
        numbers = {"base": np.int32(self.block_index * BLOCK), "count": np.int32(self.count)}
        shared = {**self.put({"factors": block["factors"], **numbers}), "data": self.data}
        drawn, room = {"draws": block["draws"], "first": self.first_draws}, self.slots if self.together else 1
        each = {seeds: self.put(taken(drawn, np.resize(seeds, room))) for seeds in set(self.seeds)}
        self.shared = [shared | each[seeds] for seeds in self.seeds]
        jax.block_until_ready(self.shared)

    def number(self, value: int) -> jax.Array:
        """A step as a scalar on the device, kept: making one costs as much as many steps of a small task."""
        if value not in self.numbers:
            self.numbers[value] = jax.device_put(np.int32(value), self.device)
        return self.numbers[value]

    def compile(self) -> None:
        """Lower and compile init, chunk (in the mode `loop` one step) and evaluation, each over a flat carry."""
        unit, row, shared = self.units[0], self.rows[0], self.shared[0]
        one = taken(unit, 0) if self.together else unit
        carry = jax.eval_shape(self.lane.init, one, shared)
        loss = jax.eval_shape(self.lane.objective(one, shared, shared["base"]).value, one["params"]).dtype
        self.structure = jax.tree.structure(carry)
        axes: list[int | None] | None = [0] * self.structure.num_leaves if self.together else None
        if self.mode == "vmap":
            axes = [0 if hit else None for hit in touched(self.lane, unit, shared)]
        init, chunk, settled, evaluate = functions(self.mode, self.lane, self.structure, loss, axes)
        begun = jax.jit(init).lower(unit, shared)
        self.first, first = self.quickly(begun), begun.out_info
        steps = [jax.ShapeDtypeStruct((), jnp.int32)] * (1 if self.mode == "loop" else 2)
        stepped = jax.jit(chunk, donate_argnums=0).lower(first, row, shared, *steps)
        self.chunk = self.quickly(stepped) if self.hasty(stepped, one) else stepped.compile()
        self.settled, seen = None, self.structure.unflatten(first)["params"]
        places = jax.tree.leaves(self.structure.unflatten(range(self.structure.num_leaves))["params"])
        shared_by_lanes = axes is not None and any(axes[i] is None for i in places)
        if shared_by_lanes or not self.unchanged(carry, one):
            chosen = jax.jit(settled).lower(first, row, shared)
            self.settled, seen = self.quickly(chosen), chosen.out_info
        self.evaluation = jax.jit(evaluate).lower(seen, self.looked(row), shared).compile()
        self.facts |= memory_facts(self.chunk, carry, len(self.units) - 1)

    def unchanged(self, carry: Any, one: Any) -> bool:
        """Whether the parameters that are evaluated are those that are stepped, as they are for most optimizers."""
        traced = jax.make_jaxpr(self.lane.settled)(carry, one, self.shared[0]).jaxpr
        inputs = self.structure.unflatten(traced.invars[: self.structure.num_leaves])
        return traced.outvars == jax.tree.leaves(inputs["params"])

    def looked(self, row: dict[str, Any]) -> dict[str, Any]:
        """What an evaluation needs of a lane beside its parameters."""
        return {"slot": row["slot"]} if self.metrics else {}

    def hasty(self, chunk: Any, one: dict[str, Any]) -> bool:
        """Whether a chunk's steps gain less by XLA's newer emitters than those take to compile.

        They speed up what is computed element by element. They take most time to compile an optimizer that multiplies
        matrices, which gains little unless its lanes are side by side; single steps gain nothing.
        """
        if self.mode != "map":
            return self.mode == "loop"
        objective = self.lane.objective(one, self.shared[0], self.shared[0]["base"])
        gradient = jax.make_jaxpr(objective.value_and_grad)(one["params"])
        return chunk.as_text().count("dot_general") > str(gradient).count("dot_general[")

    def quickly(self, lowered: Any) -> Any:
        """Compile for a CPU in the shortest time."""
        if self.device.platform == "cpu":
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # an XLA that no longer has them
                return lowered.compile(compiler_options=OLDER)
        return lowered.compile()

    def start(self) -> None:
        self.prepare(0)
        self.carries = [self.first(*given) for given in zip(self.units, self.shared, strict=True)]

    def advance(self, start: int, stop: int) -> np.ndarray:
        span, columns = (self.number(start), self.number(stop)), []
        for i, given in enumerate(zip(self.rows, self.shared, strict=True)):
            self.carries[i], losses = self.chunk(self.carries[i], *given, *span)
            columns.append(losses)
        return self.losses(columns)[: stop - start]

    def losses(self, columns: Sequence[Any]) -> np.ndarray:
        """Of all lanes, [steps, lanes], from those of each unit; nothing crosses to the host before."""
        losses = fetched(columns)
        return losses[0][:, : self.count] if self.together else np.stack(losses, axis=1)

    def evaluate(self) -> dict[str, np.ndarray]:
        metrics = []
        for carry, row, shared in zip(self.carries, self.rows, self.shared, strict=True):
            params = self.structure.unflatten(carry)["params"]
            if self.settled is not None:
                params = self.settled(carry, row, shared)
            metrics.append(self.evaluation(params, self.looked(row), shared))
        units = fetched(metrics)
        return {name: self.by_lane([unit[name] for unit in units]) for name in units[0]}

    def counts(self) -> Counts:
        units = fetched([self.structure.unflatten(carry)["counts"] for carry in self.carries])
        return Counts(*map(self.by_lane, zip(*units, strict=True)))

    def by_lane(self, units: Sequence[Any]) -> np.ndarray:
        """One number of each unit; of lanes in one unit that of each, or of all, without the padding."""
        if not self.together:
            return np.stack(units)
        values = np.asarray(units[0])
        return np.full(self.count, values) if values.ndim == 0 else values[: self.count]

    def state_bytes(self) -> list[int]:
        return [self.facts["state_bytes"]] * self.count

    def save(self) -> list[np.ndarray]:
        return [np.asarray(leaf) for carry in self.carries for leaf in carry]

    def restore(self, leaves: list[np.ndarray]) -> None:
        size = self.structure.num_leaves
        put = [jax.device_put(leaf, self.device) for leaf in leaves]
        self.carries = [put[i : i + size] for i in range(0, len(put), size)]


class StepBackend(JaxBackend):
    """Advances units of one lane by single steps, in the mode `loop`."""

    def advance(self, start: int, stop: int) -> np.ndarray:
        step, columns = self.chunk, []
        for i, (row, shared) in enumerate(zip(self.rows, self.shared, strict=True)):
            carry, t, losses = self.carries[i], self.number(start), []
            for _ in range(start, stop):
                carry, t, loss = step(carry, row, shared, t)
                losses.append(loss)
            self.carries[i] = carry
            columns.append(losses)
        return self.losses(columns)


def taken(arrays: Any, at: Any) -> Any:
    """Of every array what is at these places of its first axis."""
    return jax.tree.map(lambda array: array[at], arrays)


def memory_facts(chunk: Any, carry: Any, waiting: int) -> dict[str, Any]:
    """Bytes and counts that a record carries, from the compiled program, one lane's carry, and how many units wait."""

    def bytes_of(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    facts = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(carry["params"])),
        "parameter_bytes": bytes_of(carry["params"]),
        "state_bytes": bytes_of(carry["state"]),
    }
    analysis = chunk.memory_analysis()
    if analysis is not None:
        sizes = (analysis.temp_size_in_bytes, analysis.argument_size_in_bytes, analysis.output_size_in_bytes)
        facts["program_bytes"] = sum(sizes) - analysis.alias_size_in_bytes  # a donated carry is both
        facts["program_bytes"] += waiting * bytes_of(carry)
    return facts


BACKENDS = {"map": JaxBackend, "vmap": JaxBackend, "loop": StepBackend}
run = Engine(BACKENDS, entered, device_facts, product).run
