"""`module:name` or `file.py:name` to what it names."""

from __future__ import annotations

from typing import Any

from optbench import origin
from optbench.fields import UserError, nearest

SHORT = {"torch": "torch.optim"}
"""Modules that may be named shortly."""


def resolve(target: str) -> Any:
    """What `module:name` or `file.py:name` names, imported; a UserError with its neighbours if it is not there."""
    if target in origin.HELD:
        return origin.HELD[target]
    module_name, colon, name = target.rpartition(":")
    if not colon or not module_name or not name:
        raise UserError(f"{target!r} is no target. Write module:name, such as optax:adabelief or torch:NAdam")
    full = SHORT.get(module_name, module_name)
    try:
        module = origin.load(full) if full.endswith(".py") else origin.module(full)
    except FileNotFoundError as error:
        raise UserError(f"file {full!r} of {target!r} is not there. Give its path.") from error
    except ModuleNotFoundError as error:
        where = "" if error.name and full.startswith(error.name) else f" ({full} needs {error.name})"
        raise UserError(
            f"module {full!r} of {target!r} is not installed{where}. Install it, or put its folder on PYTHONPATH."
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the module may raise anything
        raise UserError(
            f"module {full!r} of {target!r} does not import{origin.line_of(full, error)}: "
            f"{type(error).__name__}: {error}. Mend it, then try again."
        ) from error
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        near = nearest(name, [each for each in vars(module) if not each.startswith("_")])
        raise UserError(
            f"module {full!r} has no {name!r}. {near if near.startswith('Did') else 'Look at its documentation.'}"
        )
    return found
