"""Which parameters an optimizer treats alike: every one in exactly one group."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from optbench.protocol import ROLES, role_of

Belongs = str | Callable[[str, Any], bool]
"""A regular expression that a parameter's whole name matches, or a function of its name and value."""


def by_role(role: str) -> Callable[[str, Any], bool]:
    return lambda name, value: role_of(name, value.shape) == role


BY_SHAPE: Mapping[str, Belongs] = {role: by_role(role) for role in ROLES}
"""Matrices by two axes or more, vectors by one, scalars by none; embeddings and heads only where a rule names them."""


def group_of(name: str, value: Any, rules: Mapping[str, Belongs]) -> str:
    """The one group that takes a parameter.

    Raises:
        ValueError: no group takes it, or more than one does.
    """
    found = [
        group
        for group, rule in rules.items()
        if (rule(name, value) if callable(rule) else re.fullmatch(rule, name))
    ]
    if len(found) != 1:
        said = f"belongs to {' and '.join(found)}" if found else f"belongs to none of {', '.join(rules)}"
        raise ValueError(
            f"parameter {name} of shape {tuple(value.shape)} {said}; each must be in exactly one group"
        )
    return found[0]


def partition(params: Any, rules: Mapping[str, Belongs] = BY_SHAPE) -> Any:
    """The group of each leaf, as a tree like `params`: the labels of `optax.multi_transform`, or roles.

    Raises:
        ValueError: a leaf is in no group, or in more than one.
    """
    import jax

    from optbench.rules.optax import leaf_names

    leaves, structure = jax.tree.flatten(params)
    named = zip(leaf_names(params), leaves, strict=True)
    return structure.unflatten([group_of(name, leaf, rules) for name, leaf in named])


def param_groups(
    named: Iterable[tuple[str, Any]], rules: Mapping[str, Belongs] = BY_SHAPE, **options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Param groups of torch.optim, one for each group that has parameters, with its name as `role` if it is one.

        param_groups(model.named_parameters(), {"head": "lm_head.*", "matrix": ...}, head={"lr": 3e-4})

    `options` are those of a group. The first rule that a parameter fits must be the only one.

    Raises:
        ValueError: a parameter is in no group, or in more than one.
    """
    found: dict[str, list[tuple[str, Any]]] = {}
    for name, value in named:
        found.setdefault(group_of(name, value, rules), []).append((name, value))
    roles = {group: {"role": group} if group in ROLES else {} for group in found}
    return [{"params": params, **roles[group], **options.get(group, {})} for group, params in found.items()]
