"""`optbench try X --against Y`: is a changed optimizer better, worse, the same, or can nobody tell yet?

Both sides get the same learning rates on the same tuning seeds, so that equal code chooses equally. Then each runs at
its chosen rate with fresh seeds, paired by first parameters and batches, until `stats.sequence` knows or the budget
ends. docs/agents.md describes exit codes, JSON and honest use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optbench.execute.request import Number, Text, Texts
from optbench.fields import UserError, nearest

if TYPE_CHECKING:
    from optbench.versus.result import Comparison

TASKS = "mlp[width=32],xor_rnn[length=8,units=16,batch=32]"
"""What is tried unless tasks are given: two small networks."""


@dataclass(frozen=True)
class Try:
    """What to compare; the fields are those of `optbench try`."""

    x: str
    against: str
    """What it is compared with: mine.py:make, kron, 'adam[b2=0.99]', or one of them as a commit has it: kron@HEAD~1."""
    tasks: Texts = (TASKS,)
    """Such as mlp,xor_rnn or 'quadratic[noise=0.1]'."""
    lr: Texts = None
    """Learning rates that both are tried at, in place of a grid over the ranges of both."""
    steps: Number = None
    """Steps of every task, in place of its own horizon."""
    framework: Text = None
    """jax or torch; by default the first that offers both."""
    budget: str = "60s"
    """Time to stop after: 60s, 5m, 1h. What has finished is stored, and a longer run continues from it."""
    margin: float = 1.01
    """Losses are equivalent whose ratio lies within this."""
    max_seeds: int = 200
    """Fresh seeds to stop after."""
    final: bool = False
    """Use hidden tasks of the same kinds. Each use is counted and halves the error rate that is left."""
    results: str = "results"
    """The folder that results are kept in; those of `try` are in its folder try."""
    jobs: Number = None
    """Worker processes."""


def compare(x: Any, against: Any, *, say: Callable[[str], None] | None = None, **options: Any) -> Comparison:
    """Whether one optimizer, as text or as an object, is better than another, with a known error rate.

    The options are those of `optbench try`; `say` gets a line for each look.

    Raises:
        UserError: something that was asked for cannot be done, or a program failed.
    """
    from optbench.versus.play import play

    for name in options.keys() - Try.__dataclass_fields__.keys():
        raise UserError(f"optbench.compare has no option {name!r}. {nearest(name, Try.__dataclass_fields__)}")
    return play(Try(x, against, **options), say or (lambda line: None))
