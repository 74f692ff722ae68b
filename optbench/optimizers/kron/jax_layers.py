"""Which leaves of a tree stack layers along their first axis, and how the layers of a stack are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.tree_util import keystr

from optbench.fields import nearest


class Layers(NamedTuple):
    """The mark of each leaf, and how many layers run at a time."""

    scanned: Any
    """Tree of bool, or None."""
    batch: int | None
    """Layers at a time under `lax.map`; None runs all under `vmap`."""

    def stacked(self, tree: Any) -> list[bool]:
        return stacked(tree, self.scanned)

    def lift(self, function: Callable, is_stack: bool) -> Callable:
        if not is_stack:
            return function
        if self.batch is None:
            return jax.vmap(function)
        batch = self.batch if self.batch > 1 else None
        return lambda *args: jax.lax.map(lambda xs: function(*xs), args, batch_size=batch)


def stacked(tree: Any, scanned: Any) -> list[bool]:
    """Whether each leaf stacks layers: the mark at its path; None is False.

    Marks of what the tree has not, as `optax.masked` leaves holes, are passed over.

    Raises:
        ValueError: a leaf has no mark, a mark has no leaf, or a marked leaf has no axis.
    """
    leaves, _ = jax.tree.flatten_with_path(tree)
    if scanned is None:
        return [False] * len(leaves)
    places, _ = jax.tree.flatten_with_path(tree, is_leaf=is_hole)
    holes = {path for path, place in places if is_hole(place)}
    given, _ = jax.tree.flatten_with_path(scanned, is_leaf=is_hole)
    marks = {path: not is_hole(mark) and bool(mark) for path, mark in given}
    names, marked = ([keystr(path) for path in paths] for paths in (dict(leaves), marks))
    for path, leaf in leaves:
        name = keystr(path)
        if path not in marks:
            raise ValueError(
                f"kron: scanned_layers says nothing of the parameter {name}. {nearest(name, marked)}"
            )
        if marks[path] and not leaf.shape:
            raise ValueError(
                f"kron: scanned_layers marks {name}, which has no axis of layers: it is a scalar"
            )
    for path in marks.keys() - dict(leaves).keys():
        if not any(path[:i] in holes for i in range(len(path) + 1)):
            name = keystr(path)
            raise ValueError(
                f"kron: scanned_layers marks {name}, which is no parameter. {nearest(name, names)}"
            )
    return [marks[path] for path, _ in leaves]


def is_hole(x: Any) -> bool:
    return x is None or isinstance(x, optax.MaskedNode)
