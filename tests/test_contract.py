"""Every optimizer of the catalogue x two tiny tasks by default; x every task, marked slow."""

import numpy as np
import pytest

from optbench import optimizers, tasks
from optbench.core import Status
from tests.contract import TINY, TINY_QUADRATIC, cells_of, check_page, check_record, run, same_bits

JAX = [name for name, each in optimizers.names().items() if "jax" in each.frameworks()]


@pytest.mark.parametrize("name", optimizers.names())
def test_page(name):
    """Source, memory, ranges and a sentence for each hyperparameter."""
    check_page(optimizers.names()[name])


@pytest.mark.parametrize("task", TINY, ids=lambda task: task.name)
@pytest.mark.parametrize("name", JAX)
def test_contract_in_jax(name, task):
    """Records agree with declarations, same cell same bits, lane = alone, and it lowers the loss."""
    optimizer = optimizers.names()[name]
    cells = cells_of(optimizer, task)
    traces = run(cells)
    for trace in traces:
        check_record(trace, optimizer)
    for one, other in zip(traces, run(cells[::-1])[::-1], strict=True):
        same_bits(one, other)
    metric = "loss" if "loss" in traces[0].evaluations else "train_loss"
    values = [trace.evaluations[metric] for trace in traces if trace.status is not Status.DIVERGED]
    gain = min(float(value[-1] / value[0]) for value in values)
    assert gain < (0.5 if task is TINY_QUADRATIC else 0.9), f"{name} lowers the loss by {gain:.2f} at best"


@pytest.mark.slow
@pytest.mark.parametrize("task", tasks.names())
@pytest.mark.parametrize("name", JAX)
def test_full_product_in_jax(name, task):
    """Every optimizer on every task of the catalogue, in both precisions where it is cheap."""
    optimizer, each = optimizers.names()[name], tasks.names()[task]
    for dtype in ("float32", "float64"):
        for trace in run(cells_of(optimizer, each, steps=20, rates=2, seeds=1, dtype=dtype)):
            check_record(trace, optimizer)
            assert trace.losses.dtype == np.dtype(dtype)
