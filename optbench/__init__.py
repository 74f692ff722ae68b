"""optbench: a benchmark and comparison harness for deep-learning optimizers.

```python
result = optbench.run("kron,adam,novograd", suite="quickstart")
result.table
```
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optbench.api import CellsFailed as CellsFailed
    from optbench.api import Result as Result
    from optbench.api import load as load
    from optbench.api import run as run
    from optbench.cell import Schedule as Schedule
    from optbench.fields import Search as Search
    from optbench.fields import UserError as UserError
    from optbench.fields import hyper as hyper
    from optbench.optimizer import Optimizer as Optimizer
    from optbench.suite import Suite as Suite
    from optbench.task import Functions as Functions
    from optbench.task import Target as Target
    from optbench.task import Task as Task
    from optbench.versus import compare as compare

HOMES = {
    "api": ("run", "load", "Result", "CellsFailed"),
    "cell": ("Schedule",),
    "fields": ("UserError", "hyper", "Search"),
    "optimizer": ("Optimizer",),
    "suite": ("Suite",),
    "task": ("Task", "Target", "Functions"),
    "versus": ("compare",),
}
"""The module that each public name lives in; names are imported when they are used, so that the import is cheap."""

__all__ = [name for names in HOMES.values() for name in names]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"optbench.{home}"), name)
    if name == "__version__":
        from optbench.environment import version

        return version("optbench")
    raise AttributeError(f"module 'optbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
