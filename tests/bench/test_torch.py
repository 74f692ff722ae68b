"""The engine's PyTorch: what it adds to a loop by hand, and what one gradient of all lanes saves."""

import pytest

from tests.bench import baselines
from tests.bench.baselines import grid


@pytest.mark.parametrize(("task", "steps"), [("mlp", None), ("transformer_tiny", 200)])
def test_engine_adds_little(task, steps, race, goals):
    """The same optimizer, with the same options."""
    cells = grid(task, rates=1, seeds=1, steps=steps, framework="torch")
    made = {"engine": baselines.engine(cells), "torch": baselines.torch(cells, foreach=True)}
    goals.faster(f"torch: {task}, adam", race(made), "torch", 1 / 1.03)


@pytest.mark.parametrize(("task", "least"), [("rosenbrock_2", 10), ("quadratic_10", 10)])
def test_ensemble(task, least, race, goals):
    """One gradient of all lanes by torch.func, and one optimizer for each learning rate."""
    cells = grid(task, steps=150, framework="torch")
    made = {"ensemble": baselines.engine(cells, "ensemble"), "eager": baselines.engine(cells[:1], "eager")}
    goals.faster(f"torch: {task}, {len(cells)} lanes", race(made), "eager", least)
