"""How to shard Kron's preconditioners over a mesh, from how the parameters are sharded."""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from optbench.fields import hyper
from optbench.optimizers.kron import Kron, Shaping, factor_kinds
from optbench.optimizers.kron.jax import Layers
from optbench.rules.arguments import takes


@takes(
    Kron,
    "* max_size_triangular min_ndim_triangular memory_save_mode scanned_layers",
    scanned_layers=hyper(None, "tree of bool; True marks a leaf whose first axis stacks layers"),
)
def kron_partition_specs(
    params: Any, specs: Any, mesh: Mesh | None = None, *, scanned_layers: Any, **shaped: Any
) -> Any:
    """PartitionSpecs of `Qs_preconditioners` in the state of `scale_by_kron`, from those of the parameters.

    A triangular factor Q [n, n] of an axis meets the gradient with its first axis, in Q^T Q g: that axis is
    sharded as the gradient's, and the other over the next mesh axis that the parameter is sharded over. A
    parameter [m, n] sharded as (fsdp, tensor) gets factors (fsdp, tensor) and (tensor, fsdp); where it is
    sharded over one mesh axis only, its factors have that one last. Vectors and scalars are replicated, and
    the stack axis of scanned layers is sharded as the parameter's.

        specs_of_state = {"count": P(), "mu": specs, "Qs_preconditioners": kron_partition_specs(params, specs),
                          "update_counter": P()}

    `params` are the parameters, or their shapes as `jax.eval_shape` gives them; `specs` has a PartitionSpec for each,
    where None is replicated. `mesh` leaves a mesh axis out where it does not divide the factor; without a mesh none is
    left out. The other arguments are as given to `kron`.
    """
    shaping = Shaping(**shaped)
    leaves, structure = jax.tree.flatten(params)
    marks = Layers(scanned_layers).stacked(params)
    given = structure.flatten_up_to(specs)
    return structure.unflatten(
        [
            factor_specs(leaf.shape, spec, is_stack, shaping, mesh)
            for leaf, spec, is_stack in zip(leaves, given, marks, strict=True)
        ]
    )


def factor_specs(
    shape: tuple[int, ...], spec: Any, is_stack: bool, shaping: Shaping, mesh: Mesh | None
) -> list[PartitionSpec]:
    names = [*(spec or ())] + [None] * (len(shape) - len(spec or ()))
    front, names, shape = names[:is_stack], names[is_stack:], shape[is_stack:]
    made = []
    for i, (n, kind) in enumerate(zip(shape, factor_kinds(shape, shaping), strict=True)):
        pair = []
        if kind == "triangular":
            used = [name for name in names[i + 1 :] + names[:i] if name is not None]
            pair = [names[i], used[0]] if names[i] and used else [None, names[i] or next(iter(used), None)]
            pair = [name if divides(mesh, name, n) else None for name in pair]
        made.append(PartitionSpec(*front, *pair))
    return made or [PartitionSpec(*front)]


def divides(mesh: Mesh | None, name: Any, size: int) -> bool:
    """Whether an axis of this size can be cut over a mesh axis, or over several as one."""
    if mesh is None or name is None:
        return True
    together = name if isinstance(name, tuple) else (name,)
    return size % math.prod(mesh.shape[each] for each in together) == 0
