"""Tasks: data, first parameters, batches, and the lint that keeps a task worth running."""

import numpy as np
import pytest

from optbench import optimizers, tasks
from optbench.core import Cell, Status
from optbench.stats.summary import middle
from optbench.tasks import MLP, Quadratic, Rosenbrock, digits
from optbench.tasks.quadratic import matrix
from tests.contract import run


@pytest.mark.parametrize("spectrum", ["log", "clustered"])
def test_quadratic_has_its_condition_number(spectrum):
    values = np.linalg.eigvalsh(matrix(20, 1e3, spectrum, 3))
    np.testing.assert_allclose([values[0], values[-1]], [1e-3, 1.0], rtol=1e-9)


def test_quadratic_starts_at_one():
    task = Quadratic(dim=30, condition=1e4)
    a = task.data()["A"]
    for seed in range(3):
        x = task.init(seed)["x"]
        assert x @ a @ x / 2 == pytest.approx(1.0)
    assert not np.array_equal(task.init(0)["x"], task.init(1)["x"])


def test_quadratic_noise_has_the_declared_variance():
    task = Quadratic(dim=50, noise=2.0)
    z = task.draws(0, 0, 400)["z"]
    assert np.mean(np.sum(z**2, axis=1)) == pytest.approx(4.0, rel=0.05)
    np.testing.assert_array_equal(task.draws(0, 100, 120)["z"], z[100:120])


def test_rosenbrock_starts_at_the_classic_point():
    np.testing.assert_array_equal(Rosenbrock(jitter=0.0).init(5)["x"], [-1.2, 1.0])
    assert not Rosenbrock(jitter=0.0).seeded
    assert Rosenbrock().seeded


def test_rosenbrock_values():
    """f(-1.2, 1) = 24.2, f(1, .., 1) = 0."""
    loss = Rosenbrock().jax().loss
    assert loss({"x": np.array([-1.2, 1.0])}, {}, {}) == pytest.approx(24.2)
    assert loss({"x": np.ones(7)}, {}, {}) == 0.0


def test_digits_split_is_stratified_and_disjoint():
    parts = digits.splits()
    counts = {name: np.bincount(parts[f"{name}_y"]) for name in ("train", "validation", "test")}
    assert sum(map(np.sum, counts.values())) == 1797
    total = sum(counts.values())
    assert np.all(np.abs(counts["train"] / total - 0.6) < 0.01)
    assert np.all(np.abs(counts["test"] / total - 0.2) < 0.01)
    rows = {tuple(row) for row in parts["train_x"]}
    assert not any(tuple(row) in rows for row in parts["test_x"])


def test_batches_are_permutations_of_each_epoch():
    rows = digits.batch_indices(0, 0, 16, 1078, 128)
    assert rows.shape == (16, 128)
    for epoch in (rows[:8], rows[8:]):
        assert len(np.unique(epoch)) == 8 * 128
    np.testing.assert_array_equal(digits.batch_indices(0, 5, 12, 1078, 128), rows[5:12])
    assert not np.array_equal(rows, digits.batch_indices(1, 0, 16, 1078, 128))


def test_both_frameworks_agree_on_every_task():
    """Loss within 1e-6 and gradient within 1e-5 (float32), from the same NumPy parameters."""
    import jax
    import torch

    torch.set_num_threads(1)
    for task in (Quadratic(dim=12, noise=0.5), Rosenbrock(dim=6), MLP(width=16)):
        params = {k: v.astype(np.float32) for k, v in task.init(0).items()}
        data = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in task.data().items()}
        draw = {
            k: v[0].astype(np.float32) if v.dtype.kind == "f" else v[0]
            for k, v in task.draws(0, 0, 1).items()
        }
        value, grads = jax.value_and_grad(task.jax().loss)(params, data, draw)
        tensors = {k: torch.tensor(v, requires_grad=True) for k, v in params.items()}

        def to_torch(tree):
            return {
                k: torch.tensor(v, dtype=torch.int64 if v.dtype.kind == "i" else None)
                for k, v in tree.items()
            }

        loss = task.torch().loss(tensors, to_torch(data), to_torch(draw))
        loss.backward()
        assert loss.item() == pytest.approx(float(value), rel=1e-6)
        for name, grad in grads.items():
            scale = np.abs(grad).max()
            np.testing.assert_allclose(tensors[name].grad.numpy() / scale, grad / scale, atol=1e-5)


# --- the lint: not solved at the start, bounded below, reached by one method, missed by another ------------

REFERENCES = {
    "quadratic_10": ("adam", "novograd"),
    "quadratic_100": ("adam", "sgd"),
    "rosenbrock_2": ("adam", "sgd"),
    "rosenbrock_100": ("novograd", "sgd"),
    "mlp": ("kron", "sgd"),
}
"""For each task of the quickstart: a method that reaches its main or hardest target, and one that misses it."""


def values_at(trace, metric):
    """The metric over the run: each step's loss, or the evaluations."""
    return trace.losses if metric == "loss" else trace.evaluations[metric]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "mlp" else n for n in REFERENCES]
)
def test_lint(name):
    """A task is worth running: it starts unsolved, is bounded below, and its targets tell methods apart."""
    task = tasks.names()[name]
    reaches: dict[str, list[bool]] = {}
    for optimizer in REFERENCES[name]:
        cells = [
            Cell(task, trial, steps=task.horizon, seed=seed)
            for trial in optimizers.names()[optimizer].trials(9)
            for seed in range(3)
        ]
        traces = run(cells)
        for trace in traces:
            for target in task.targets():
                assert values_at(trace, target.metric)[0] > target.value, f"{name} is solved at the start"
            if task.optimum is not None and trace.status is not Status.DIVERGED:
                assert np.nanmin(trace.losses) >= task.optimum - 1e-6
        reaches[optimizer] = [
            any(
                middle(np.array([np.nanmin(values_at(t, target.metric)) for t in traces[i : i + 3]]))
                <= target.value
                for i in range(0, len(traces), 3)
            )
            for target in task.targets()
        ]
    first, second = (reaches[optimizer] for optimizer in REFERENCES[name])
    assert any(a and not b for a, b in zip(first, second, strict=True)), (
        f"{name}: {reaches} tells nobody apart"
    )
