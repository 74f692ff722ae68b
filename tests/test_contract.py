"""Every optimizer of the catalogue on tiny tasks by default; on every task, marked slow.

Compiling costs the most, so by default each is checked on a quadratic (in JAX not those that are written once for both
frameworks), and a few of each kind on a small network too.
"""

import math

import numpy as np
import pytest

from optbench import optimizers, tasks
from optbench.optimizers.leafwise import Leafwise
from tests.contract import SMALLER, TINY, TINY_QUADRATIC, cells_of, check, check_record, run

OFFERED = [(name, framework) for name, each in optimizers.names().items() for framework in each.frameworks()]


COMPILES = ("lra", "lra_dq", "dense_newton", "lbfgs")
"""For seconds in JAX, and held to traces there."""
NETWORK = ("adam", "esgd", "kron", "muon", "schedule_free_adamw")


def is_quick(name, framework, task) -> bool:
    """Whether a pair is checked by default."""
    optimizer = optimizers.names()[name]
    if task is not TINY_QUADRATIC:
        return name in NETWORK and (framework == "torch" or name == "adam")
    if framework == "jax" and name in COMPILES:
        return False
    once = isinstance(optimizer, Leafwise)  # the same step in both, and held to a trace in both
    return framework == "torch" or name in optimizers.listed() or not once


PAIRS = [
    pytest.param(
        name,
        framework,
        task,
        id=f"{name}-{framework}-{task.name}",
        marks=() if is_quick(name, framework, task) else pytest.mark.slow,
    )
    for name, framework in OFFERED
    for task in TINY
]


@pytest.mark.parametrize("optimizer", optimizers.names().values(), ids=lambda optimizer: optimizer.name)
def test_page(optimizer):
    """Source, memory and ranges; test_fields checks the sentence of each field."""
    assert any(letter.isdigit() for letter in optimizer.source), "an identifier or a year"
    assert optimizer.memory
    assert type(optimizer).__doc__
    if (swept := optimizer.swept()) is not None:
        low, high = swept.metadata["sweep"]
        assert math.isclose(high / low, 1e4), "every optimizer is swept over four decades"


@pytest.mark.parametrize(("name", "framework", "task"), PAIRS)
def test_contract(name, framework, task):
    finer = {} if is_quick(name, framework, task) else {"rates": 5, "steps": 300}
    check(optimizers.names()[name], task, framework=framework, **finer)


@pytest.mark.slow
@pytest.mark.parametrize("task", [kind.name for kind in tasks.CLASSES])
@pytest.mark.parametrize(
    ("name", "framework"), [each for each in OFFERED if not optimizers.names()[each[0]].dense]
)
def test_full_product(name, framework, task):
    """Every optimizer that is not for small problems only, on every kind of task, in both precisions."""
    optimizer, each = optimizers.names()[name], tasks.names()[task].replace(**SMALLER.get(task, {}))
    for dtype in ("float32", "float64"):
        cells = cells_of(optimizer, each, steps=20, rates=2, seeds=1, dtype=dtype, framework=framework)
        for trace in run(cells):
            check_record(trace, optimizer)
            assert trace.losses.dtype == np.dtype(dtype)
