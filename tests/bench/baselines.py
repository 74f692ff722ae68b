"""What the engine is held against: the loops that people write by hand, with the same task and optimizer.

Each function takes cells of one program and returns a call and how many steps of one lane the call does. All
start from the same parameters, see the same batches as the engine and bring every loss to the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optbench import optimizers, plan, tasks
from optbench.cell import Cell
from optbench.engines import jax as jax_engine
from optbench.engines.lanes import Inputs, drive
from tests.bench import plain_networks
from tests.bench.clock import Contestant, clock

OPTAX = {"adam": optax.adam, "sgd": optax.sgd}
TORCH = {"adam": "Adam", "sgd": "SGD"}

RATES, SEEDS = 9, 5
"""The quickstart's grid: 45 lanes."""


def grid(
    task: str,
    optimizer: str = "adam",
    rates: int = RATES,
    seeds: int = SEEDS,
    steps: int | None = None,
    framework: str = "jax",
) -> list[Cell]:
    """The cells of one program."""
    what, trials = tasks.parse(task), optimizers.parse(optimizer).trials(rates)
    given = {"framework": framework, "steps": steps or what.horizon}
    return [Cell(what, trial, seed=seed, **given) for trial in trials for seed in range(seeds)]


def engine(cells: Sequence[Cell], mode: str | None = None) -> Contestant:
    """The engine as a worker runs one group of lanes, chunk by chunk.

    Evaluation and the making of inputs are off the clock, as in every record and as for the other loops; the
    first evaluation serves for all.
    """
    (program,) = plan.programs(cells, mode=mode)
    inputs = Inputs.of(program.cells)
    backend = backend_of(program, inputs)
    backend.start()
    found, start = backend.evaluate(), backend.start
    backend.evaluate = lambda: found
    for name in ("prepare", "counts"):
        setattr(backend, name, clock.off()(getattr(backend, name)))
    if program.cells[0].framework == "torch":  # its `start` makes parameters and optimizers on the host
        backend.start = clock.off()(start)

    def run() -> Any:
        return drive(inputs, backend, lambda event, facts: None)[0]

    steps = run().facts["program_steps"]
    return Contestant(lambda: run().losses, steps * len(cells), backend.facts.get("program_bytes", math.nan))


def backend_of(program: plan.Program, inputs: Inputs) -> Any:
    """What advances the lanes of a program."""
    if program.cells[0].framework == "jax":
        made = jax_engine.BACKENDS[program.mode]
        return made(inputs, program.mode, jax.devices("cpu")[0], program.width)
    import torch as pytorch

    from optbench.engines import torch as torch_engine

    pytorch.set_num_threads(1)
    return torch_engine.BACKENDS[program.mode](inputs, program.mode, pytorch.device("cpu"), program.width)


def device(tree: Any) -> Any:
    """On the device, floating-point numbers as float32."""
    return jax.tree.map(
        lambda a: jnp.asarray(a.astype(np.float32) if np.issubdtype(a.dtype, np.floating) else a), tree
    )


def step_of(cell: Cell) -> Callable[..., Any]:
    """One optax step: (params, state, rate, data, draw) to (params, state, loss)."""
    loss_of, make = plain_networks.loss_of(cell.task), OPTAX[cell.optimizer.name]

    def step(params: Any, state: Any, rate: Any, data: Any, draw: Any) -> tuple[Any, Any, Any]:
        loss, grads = jax.value_and_grad(loss_of)(params, data, draw)
        updates, state = make(rate).update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    return step


def rate_of(cell: Cell) -> float:
    """The learning rate."""
    return cell.optimizer.lane_numbers()["learning_rate"]


def naive(cells: Sequence[Cell]) -> Contestant:
    """A jitted step called from Python, with float(loss) after each, for one lane."""
    cell = cells[0]
    steps = min(cell.steps, 200)
    step, rate = jax.jit(step_of(cell)), jnp.float32(rate_of(cell))
    data, first = device(cell.task.data()), device(cell.task.init(cell.seed))
    table = cell.task.draws(cell.seed, 0, steps)
    draws = [{name: array[t] for name, array in table.items()} for t in range(steps)]
    start = OPTAX[cell.optimizer.name](1.0).init(first)

    def call() -> list[float]:
        params, state, losses = first, start, []
        for draw in draws:
            params, state, loss = step(params, state, rate, data, draw)
            losses.append(float(loss))
        return losses

    return Contestant(call, steps)


def scan(cells: Sequence[Cell]) -> Contestant:
    """A `lax.scan` over all steps, for one lane."""
    cell = cells[0]
    inputs = device((cell.task.init(cell.seed), np.float64(rate_of(cell)), draws_of(cell)))
    program = compiled(train_of(cell), *inputs, device(cell.task.data()))
    return Contestant(lambda: np.asarray(program.call()[1]), cell.steps, program.bytes)


def vmap(cells: Sequence[Cell]) -> Contestant:
    """That scan under `vmap`, for all lanes."""
    cell = cells[0]
    lanes = [(c.task.init(c.seed), np.float64(rate_of(c)), draws_of(c)) for c in cells]
    inputs = device(jax.tree.map(lambda *leaves: np.stack(leaves), *lanes))
    train = jax.vmap(train_of(cell), in_axes=(0, 0, 0, None))
    program = compiled(train, *inputs, device(cell.task.data()))
    return Contestant(lambda: np.asarray(program.call()[1])[0], cell.steps * len(cells), program.bytes)


def draws_of(cell: Cell) -> dict[str, np.ndarray]:
    """The batches of all steps."""
    return cell.task.draws(cell.seed, 0, cell.steps)


def train_of(cell: Cell) -> Callable[..., Any]:
    """Training as one scan: (first parameters, rate, draws, data) to (last carry, losses)."""
    step = step_of(cell)

    def train(first: Any, rate: Any, draws: Any, data: Any) -> Any:
        def body(carry: Any, draw: Any) -> Any:
            params, state, loss = step(*carry, rate, data, draw)
            return (params, state), loss

        start = (first, OPTAX[cell.optimizer.name](rate).init(first))
        return jax.lax.scan(body, start, draws, length=cell.steps)

    return train


def compiled(function: Callable[..., Any], *inputs: Any) -> Contestant:
    """The function compiled ahead of time, on these inputs."""
    program = jax.jit(function).lower(*inputs).compile()
    found = program.memory_analysis()
    size = found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
    return Contestant(lambda: jax.block_until_ready(program(*inputs)), 1, size)


def torch(cells: Sequence[Cell], **options: Any) -> Contestant:
    """A plain PyTorch loop with loss.item() after each step, for one lane."""
    import torch as pytorch

    cell = cells[0]
    steps = min(cell.steps, 100)
    pytorch.set_num_threads(1)
    loss_of = cell.task.torch().loss

    def tensors(arrays: Any) -> dict[str, pytorch.Tensor]:
        return {
            name: pytorch.as_tensor(
                a, dtype=pytorch.float32 if np.issubdtype(a.dtype, np.floating) else pytorch.int64
            )
            for name, a in arrays.items()
        }

    data, table = tensors(cell.task.data()), tensors(cell.task.draws(cell.seed, 0, steps))
    draws = [{name: array[t] for name, array in table.items()} for t in range(steps)]
    params = {name: tensor.requires_grad_() for name, tensor in tensors(cell.task.init(cell.seed)).items()}
    optimizer = getattr(pytorch.optim, TORCH[cell.optimizer.name])(
        params.values(), lr=rate_of(cell), **options
    )

    def call() -> list[float]:
        losses = []
        for draw in draws:
            optimizer.zero_grad()
            loss = loss_of(params, data, draw)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return Contestant(call, steps)
