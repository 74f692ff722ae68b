"""Every optimizer of the catalogue on tiny tasks by default; on every task, marked slow.

Two compilations for each optimizer and task cost the most, so the standard methods are checked on one tiny task
in JAX by default, and the listed ones on both. In torch nothing compiles, and everything is checked on both.
"""

import numpy as np
import pytest

from optbench import optimizers, tasks
from tests.contract import TINY, TINY_QUADRATIC, cells_of, check, check_page, check_record, run

OFFERED = [(name, framework) for name, each in optimizers.names().items() for framework in each.frameworks()]


def is_quick(name, framework, task) -> bool:
    """Whether a pair is checked by default."""
    return framework == "torch" or name in optimizers.listed() or task is TINY_QUADRATIC


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


@pytest.mark.parametrize("name", optimizers.names())
def test_page(name):
    """Source, memory, ranges and a sentence for each hyperparameter."""
    check_page(optimizers.names()[name])


@pytest.mark.parametrize(("name", "framework", "task"), PAIRS)
def test_contract(name, framework, task):
    """Records agree with declarations, same cell same bits, lane = alone, and it lowers the loss."""
    finer = {} if is_quick(name, framework, task) else {"rates": 5, "steps": 300}
    check(optimizers.names()[name], task, framework=framework, **finer)


@pytest.mark.slow
@pytest.mark.parametrize("task", tasks.names())
@pytest.mark.parametrize(("name", "framework"), OFFERED)
def test_full_product(name, framework, task):
    """Every optimizer on every task of the catalogue, in both precisions where it is cheap."""
    optimizer, each = optimizers.names()[name], tasks.names()[task]
    for dtype in ("float32", "float64"):
        cells = cells_of(optimizer, each, steps=20, rates=2, seeds=1, dtype=dtype, framework=framework)
        for trace in run(cells):
            check_record(trace, optimizer)
            assert trace.losses.dtype == np.dtype(dtype)
