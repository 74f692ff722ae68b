"""What the engine is held against: the loops that people write by hand, with the same task and optimizer.

Each function takes cells of one program and returns a call and how many steps of one lane the call does. All
start from the same parameters, see the same batches as the engine and bring every loss to the host.
"""

import math

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


def grid(task, optimizer="adam", rates=RATES, seeds=SEEDS, steps=None, framework="jax"):
    """The cells of one program."""
    what, trials = tasks.parse(task), optimizers.parse(optimizer).trials(rates)
    given = {"framework": framework, "steps": steps or what.horizon}
    return [Cell(what, trial, seed=seed, **given) for trial in trials for seed in range(seeds)]


def loops(cells, names, steps=20):
    """Contestants by name, after a check that all do the same work in their first steps."""
    contestants = {name: globals()[name](cells) for name in names}
    same_losses(contestants, steps)
    return contestants


def same_losses(contestants, steps):
    losses = {name: np.asarray(contestant.call()[:steps]) for name, contestant in contestants.items()}
    for name in losses:
        np.testing.assert_allclose(losses[name], losses["naive"], rtol=1e-4, err_msg=name)


def engine(cells, mode=None):
    """The engine as a worker runs one group of lanes, chunk by chunk.

    Evaluation and the making of inputs are off the clock, as in every record and as for the other loops; the
    first evaluation serves for all.
    """
    (program,) = plan.programs(cells, mode=mode)
    inputs = Inputs.of(program.cells)
    backend = backend_of(program, inputs)
    backend.start()
    values, start = backend.evaluate(), backend.start
    backend.evaluate = lambda: values
    for name in ("prepare", "counts"):
        setattr(backend, name, clock.off()(getattr(backend, name)))
    if program.cells[0].framework == "torch":  # its `start` makes parameters and optimizers on the host
        backend.start = clock.off()(start)

    def run():
        return drive(inputs, backend, lambda event, facts: None)[0]

    steps = run().facts["program_steps"]
    return Contestant(lambda: run().losses, steps * len(cells), backend.facts.get("program_bytes", math.nan))


def backend_of(program, inputs):
    if program.cells[0].framework == "jax":
        backend = jax_engine.BACKENDS[program.mode]
        return backend(inputs, program.mode, jax.devices("cpu")[0], program.width)
    import torch as pytorch

    from optbench.engines import torch as torch_engine

    pytorch.set_num_threads(1)
    return torch_engine.BACKENDS[program.mode](inputs, program.mode, pytorch.device("cpu"), program.width)


def device(tree):
    """On the device, floating-point numbers as float32."""
    return jax.tree.map(
        lambda a: jnp.asarray(a.astype(np.float32) if np.issubdtype(a.dtype, np.floating) else a), tree
    )


def step_of(cell):
    """One optax step: (params, state, rate, data, draw) to (params, state, loss)."""
    loss_of, make = plain_networks.loss_of(cell.task), OPTAX[cell.optimizer.name]

    def step(params, state, rate, data, draw):
        loss, grads = jax.value_and_grad(loss_of)(params, data, draw)
        updates, state = make(rate).update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    return step


def naive(cells):
    """A jitted step called from Python, with float(loss) after each, for one lane."""
    cell = cells[0]
    steps = min(cell.steps, 200)
    step, rate = jax.jit(step_of(cell)), jnp.float32(cell.optimizer.learning_rate)
    data, first = device(cell.task.data()), device(cell.task.init(cell.seed))
    table = cell.task.draws(cell.seed, 0, steps)
    draws = [{name: array[t] for name, array in table.items()} for t in range(steps)]
    start = OPTAX[cell.optimizer.name](1.0).init(first)

    def call():
        params, state, losses = first, start, []
        for draw in draws:
            params, state, loss = step(params, state, rate, data, draw)
            losses.append(float(loss))
        return losses

    return Contestant(call, steps)


def scan(cells):
    """A `lax.scan` over all steps, for one lane."""
    cell = cells[0]
    inputs = device(inputs_of(cell))
    program = compiled(train_of(cell), *inputs, device(cell.task.data()))
    return Contestant(lambda: np.asarray(program.call()[1]), cell.steps, program.bytes)


def vmap(cells):
    """That scan under `vmap`, for all lanes."""
    cell = cells[0]
    inputs = device(jax.tree.map(lambda *leaves: np.stack(leaves), *map(inputs_of, cells)))
    train = jax.vmap(train_of(cell), in_axes=(0, 0, 0, None))
    program = compiled(train, *inputs, device(cell.task.data()))
    return Contestant(lambda: np.asarray(program.call()[1])[0], cell.steps * len(cells), program.bytes)


def inputs_of(cell):
    """First parameters, learning rate and the batches of all steps."""
    rate = np.float64(cell.optimizer.learning_rate)
    return cell.task.init(cell.seed), rate, cell.task.draws(cell.seed, 0, cell.steps)


def train_of(cell):
    """Training as one scan: (first parameters, rate, draws, data) to (last carry, losses)."""
    step = step_of(cell)

    def train(first, rate, draws, data):
        def body(carry, draw):
            params, state, loss = step(*carry, rate, data, draw)
            return (params, state), loss

        start = (first, OPTAX[cell.optimizer.name](rate).init(first))
        return jax.lax.scan(body, start, draws, length=cell.steps)

    return train


def compiled(function, *inputs):
    """The function compiled ahead of time, on these inputs."""
    program = jax.jit(function).lower(*inputs).compile()
    memory = program.memory_analysis()
    size = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Contestant(lambda: jax.block_until_ready(program(*inputs)), 1, size)


def torch(cells, **options):
    """A plain PyTorch loop with loss.item() after each step, for one lane."""
    import torch as pytorch

    cell = cells[0]
    steps = min(cell.steps, 100)
    pytorch.set_num_threads(1)
    loss_of = cell.task.torch().loss

    def tensors(arrays):
        types = {"f": pytorch.float32, "i": pytorch.int64, "u": pytorch.int64}
        return {name: pytorch.as_tensor(a, dtype=types[a.dtype.kind]) for name, a in arrays.items()}

    data, table = tensors(cell.task.data()), tensors(cell.task.draws(cell.seed, 0, steps))
    draws = [{name: array[t] for name, array in table.items()} for t in range(steps)]
    params = {name: tensor.requires_grad_() for name, tensor in tensors(cell.task.init(cell.seed)).items()}
    kind = getattr(pytorch.optim, TORCH[cell.optimizer.name])
    optimizer = kind(params.values(), lr=cell.optimizer.learning_rate, **options)

    def call():
        losses = []
        for draw in draws:
            optimizer.zero_grad()
            loss = loss_of(params, data, draw)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return Contestant(call, steps)
