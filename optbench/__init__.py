"""optbench: a benchmark and comparison harness for deep-learning optimizers.

```python
result = optbench.run(suite="quickstart", opt="kron,adam,novograd")
result.table
```
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optbench.execute.session import Result as Result
    from optbench.execute.session import run as run
    from optbench.fields import UserError as UserError

__all__ = ["Result", "UserError", "run"]


def __getattr__(name: str) -> Any:
    """Names are imported when they are used, so that `import optbench` costs nothing."""
    if name in ("run", "Result"):
        from optbench.execute import session

        return getattr(session, name)
    if name == "UserError":
        from optbench.fields import UserError

        return UserError
    if name == "__version__":
        from optbench.environment import version

        return version("optbench")
    raise AttributeError(f"module 'optbench' has no attribute {name!r}")
