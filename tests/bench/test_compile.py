"""One compilation for a grid against one for each cell."""

import time

import jax
import jax.numpy as jnp
import pytest

from optbench import plan
from optbench.engines.jax import JaxBackend
from optbench.engines.lanes import Inputs
from tests.bench import baselines
from tests.bench.baselines import grid

SAMPLES = 5
GRID = {"rates": 8, "seeds": 15}
"""120 cells, the grid that the goals were set for; what one compilation saves grows with the cells."""


def compile_cell(cell):
    """CPU seconds to compile the step of one cell, with its learning rate a constant, as people write it."""
    train, data = baselines.step_of(cell), baselines.device(cell.task.data())
    first = baselines.device(cell.task.init(cell.seed))
    state = baselines.OPTAX[cell.optimizer.name](1.0).init(first)
    draw = {name: table[0] for name, table in baselines.device(cell.task.draws(cell.seed, 0, 1)).items()}

    @jax.jit
    def step(params, state, draw):
        return train(params, state, cell.optimizer.learning_rate, data, draw)

    begun = time.process_time()
    step.lower(first, state, draw).compile()
    return time.process_time() - begun


def compile_grid(cells):
    """CPU seconds of the engine to compile first parameters, steps and evaluation of all cells."""
    (program,) = plan.programs(cells)
    backend = JaxBackend(Inputs.of(program.cells), program.mode, jax.devices("cpu")[0])
    return backend.facts["compile_cpu_seconds"]


@pytest.mark.parametrize(("task", "least"), [("rosenbrock_2", 8), ("mlp", 25)])
def test_grid_compiles_once(task, least, cold, goals):
    cells = grid(task, **GRID)
    jnp.ones(3).block_until_ready()
    pairs = [(compile_cell(cell), compile_grid(cells)) for cell in cells[:: len(cells) // SAMPLES][:SAMPLES]]
    cell, whole = map(min, zip(*pairs, strict=True))
    goals.at_least(f"compile: {task}, {len(cells)} cells", len(cells) * cell / whole, least, "x per cell")
