"""Lanes in JAX: cells that differ only in numbers run as lanes of one compiled program.

Three modes, and when they pay:

- `vmap`: lanes side by side in one vectorised step, for steps too small to fill the machine. Bits depend on
  the width, so it is fixed and groups are padded to it. With leaves of 2 to 8 numbers they depend on the
  lane's index in the group too (LLVM ends loops over such strides with scalar steps, which round otherwise); a plan
  gives those to `map`. Leaves of the carry that no lane touches (step counters) stay unbatched, so that
  `lax.cond` on them remains a branch.
- `map`: lanes one after the other inside one program; each has the bits it has alone, and a program made for many
  lanes runs fewer.
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
from optbench.engines.jax_device import entered, placed, product
from optbench.engines.jax_device import watch_memory as watch_memory
from optbench.engines.jax_program import PROGRAMS, Lane, touched
from optbench.engines.jax_task import loop_facts
from optbench.engines.lanes import BLOCK, WIDTH, Backend, Engine, Inputs
from optbench.engines.measured import Stopwatch
from optbench.metrics import Metric
from optbench.protocol import Counts

WORTH = 500_000
"""Steps of a task times the mean size of its arrays, from which some thirty lanes gain by XLA's newer emitters."""
SMALL = 100_000
"""Parameters of a lane up to which room for lanes that are not there costs nothing."""


class JaxBackend(Backend):
    """Advances units of lanes by one compiled program: all lanes are one unit, in the mode `map` or `vmap`."""

    def __init__(
        self, inputs: Inputs, mode: str, device: Any, width: int = WIDTH, metrics: Sequence[Metric] = ()
    ):
        self.lane = Lane(inputs.cell, metrics)
        self.numbers: dict[int, jax.Array] = {}
        lanes, seeds = len(inputs.cells), len(inputs.seeds)
        small = sum(np.size(array) for array in inputs.cell.task.init(0).values()) <= SMALL
        self.room, self.slots = (-(-lanes // 32) * 32, -(-seeds // 8) * 8) if small else (lanes, seeds)
        """Lanes and seeds that its programs have room for: round numbers, so that other runs find them compiled."""
        if mode == "vmap":
            self.room = width
        super().__init__(inputs, mode, device, width, metrics)
        if device.platform == "cpu":
            self.facts |= loop_facts(inputs.cell, mode, self.put)
        with Stopwatch() as compiling:
            self.compile()
        self.facts |= compiling.facts("compile")

    def put(self, tree: Any) -> Any:
        return placed(tree, self.inputs.cell.dtype, self.device)

    def fits(self, cells: int, seeds: int) -> bool:
        return seeds <= self.slots and (cells <= self.room or self.mode != "map")

    def load(self, inputs: Inputs) -> None:
        super().load(inputs)
        self.count = len(inputs.cells)
        self.place(inputs.lane_arrays())
        self.prepare(0)

    def place(self, lanes: dict[str, Any]) -> None:
        """Put what differs between lanes on the device: the units, and the rows that a step of each needs."""
        self.units = self.rows = [self.put(filled(lanes, self.room))]

    def put_block(self, block: dict[str, Any]) -> None:
        numbers = {"base": np.int32(self.block_index * BLOCK), "count": np.int32(self.count)}
        block = block | {"draws": filled(block["draws"], self.slots)} | numbers
        self.shared = {**self.put(block), "data": self.data, "first": filled(self.first_draws, self.slots)}
        jax.block_until_ready(self.shared)

    def number(self, value: int) -> jax.Array:
        """A step as a scalar on the device, kept: making one costs as much as many steps of a small task."""
        if value not in self.numbers:
            self.numbers[value] = jax.device_put(np.int32(value), self.device)
        return self.numbers[value]

    def compile(self) -> None:
        """Lower and compile init, chunk (in the mode `loop` one step) and evaluation, each over a flat carry."""
        unit, row = self.units[0], self.rows[0]
        one = unit if self.mode == "loop" else jax.tree.map(lambda array: array[0], unit)
        carry = jax.eval_shape(self.lane.init, one, self.shared)
        self.structure = jax.tree.structure(carry)
        axes: list[int | None] = [0] * self.structure.num_leaves
        if self.mode == "vmap":
            axes = [0 if hit else None for hit in touched(self.lane, unit, self.shared)]
        init, chunk, settled, evaluate = PROGRAMS[self.mode](self.lane, self.structure, axes)
        begun = jax.jit(init).lower(unit, self.shared)
        self.first, first = self.quickly(begun), begun.out_info
        steps = [jax.ShapeDtypeStruct((), jnp.int32)] * (1 if self.mode == "loop" else 2)
        stepped = jax.jit(chunk, donate_argnums=0).lower(first, row, self.shared, *steps)
        self.chunk = self.quickly(stepped) if self.hasty(stepped, one) else stepped.compile()
        places = jax.tree.leaves(self.structure.unflatten(range(len(axes)))["params"])
        self.settled, seen = None, self.structure.unflatten(first)["params"]
        if any(axes[i] is None for i in places) or not self.unchanged(carry, one):
            chosen = jax.jit(settled).lower(first, row, self.shared)
            self.settled, seen = self.quickly(chosen), chosen.out_info
        self.evaluation = jax.jit(evaluate).lower(seen, self.looked(row), self.shared).compile()
        self.facts |= memory_facts(self.chunk, carry)

    def unchanged(self, carry: Any, one: Any) -> bool:
        """Whether the parameters that are evaluated are those that are stepped, as they are for most optimizers."""
        traced = jax.make_jaxpr(self.lane.settled)(carry, one, self.shared).jaxpr
        inputs = self.structure.unflatten(traced.invars[: self.structure.num_leaves])
        return traced.outvars == jax.tree.leaves(inputs["params"])

    def looked(self, row: dict[str, Any]) -> dict[str, Any]:
        """What an evaluation needs of a lane beside its parameters."""
        return {"slot": row["slot"]} if self.metrics else {}

    def evaluated(self, carry: list[Any], row: dict[str, Any]) -> dict[str, Any]:
        params = self.structure.unflatten(carry)["params"]
        if self.settled is not None:
            params = self.settled(carry, row, self.shared)
        return self.evaluation(params, self.looked(row), self.shared)

    def hasty(self, chunk: Any, one: dict[str, Any]) -> bool:
        """Whether a chunk's steps gain less by XLA's newer emitters than those take to compile.

        They speed up what is computed element by element, by a third. Lanes side by side and single steps gain nothing,
        an optimizer that multiplies matrices little, a small network less than a study of it spends on compilation.
        """
        arrays = [np.size(array) for array in one["params"].values()]
        few = self.inputs.cell.task.horizon * np.mean(arrays) < WORTH
        if few or self.mode != "map" or self.device.platform != "cpu":
            return True
        objective = self.lane.objective(one, self.shared, self.shared["base"])
        gradient = jax.make_jaxpr(objective.value_and_grad)(one["params"])
        return chunk.as_text().count("dot_general") > str(gradient).count("dot_general[")

    def quickly(self, lowered: Any) -> Any:
        """Compile for a CPU by XLA's older emitters, which take half the time."""
        if self.device.platform == "cpu":
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # an XLA that no longer has them
                return lowered.compile(compiler_options={"xla_cpu_use_fusion_emitters": False})
        return lowered.compile()

    def start(self) -> None:
        self.prepare(0)
        self.carries = [self.first(unit, self.shared) for unit in self.units]

    def advance(self, start: int, stop: int) -> np.ndarray:
        steps = (self.number(start), self.number(stop))
        self.carries[0], losses = self.chunk(self.carries[0], self.rows[0], self.shared, *steps)
        return np.asarray(losses)[: stop - start, : self.count]

    def evaluate(self) -> dict[str, np.ndarray]:
        units = [self.evaluated(carry, row) for carry, row in zip(self.carries, self.rows, strict=True)]
        units = units if len(units) == 1 else jax.device_get(units)
        return {name: self.by_lane([unit[name] for unit in units]) for name in units[0]}

    def counts(self) -> Counts:
        units = [self.structure.unflatten(carry)["counts"] for carry in self.carries]
        units = units if len(units) == 1 else jax.device_get(units)
        return Counts(*map(self.by_lane, zip(*units, strict=True)))

    def by_lane(self, units: Sequence[Any]) -> np.ndarray:
        """One number of each unit, or of one unit that of each lane (or of all) as [lanes] without the padding."""
        if len(units) > 1:
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
    """Advances units of one lane, one after the other, by single steps, in the mode `loop`."""

    def place(self, lanes: dict[str, Any]) -> None:
        self.units = [self.put(jax.tree.map(lambda array, i=i: array[i], lanes)) for i in range(self.count)]
        # A step costs more with each array that it is called with, and only the first carry needs the parameters.
        self.rows = [{name: unit[name] for name in unit if name != "params"} for unit in self.units]

    def advance(self, start: int, stop: int) -> np.ndarray:
        """Nothing waits for a step before the losses cross to the host."""
        shared, step = self.shared, self.chunk
        columns = []
        for i, row in enumerate(self.rows):
            carry, t, losses = self.carries[i], self.number(start), []
            for _ in range(start, stop):
                carry, t, loss = step(carry, row, shared, t)
                losses.append(loss)
            self.carries[i] = carry
            columns.append(losses)
        return np.array(jax.device_get(columns)).T


def filled(arrays: Any, rows: int) -> Any:
    """Arrays with their rows repeated until there are so many."""
    return jax.tree.map(lambda array: array[np.resize(np.arange(len(array)), rows)], arrays)


def memory_facts(chunk: Any, carry: Any) -> dict[str, Any]:
    """Bytes and counts that a record carries, from the compiled program and one lane's carry."""

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
    return facts


BACKENDS = {"map": JaxBackend, "vmap": JaxBackend, "loop": StepBackend}
run = Engine(BACKENDS, entered, device_facts, product).run
