"""Tensors of which each process has a shard (`DTensor`, as `fully_shard` makes them), beside those that are whole."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch


def is_sharded(x: Any) -> bool:
    module = sys.modules.get("torch.distributed.tensor")  # only who imported it has any
    return module is not None and isinstance(x, module.DTensor)


def whole(x: Any) -> Any:
    """All of it, on every process."""
    return x.full_tensor() if is_sharded(x) else x


def local(x: Any) -> Any:
    """This process's part of it; in place changes of one are of both."""
    return x.to_local() if is_sharded(x) else x


def mapped(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """A state with each of its tensors changed."""
    if isinstance(value, dict):
        return {name: mapped(change, each) for name, each in value.items()}
    if isinstance(value, list):
        return [mapped(change, each) for each in value]
    return change(value) if isinstance(value, torch.Tensor) else value


def joined(part: torch.Tensor, like: Any) -> torch.Tensor:
    """The tensor whose part on each process this is; sharded as `like` is, and of its shape."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    known = {"shape": like.shape, "stride": like.stride()}
    return DTensor.from_local(part, like.device_mesh, like.placements, run_check=False, **known)


def spread(x: torch.Tensor, like: Any) -> torch.Tensor:
    """Sharded as `like` is, by rows where it has another shape; every process has the whole of it already."""
    if not is_sharded(like) or is_sharded(x) or not x.ndim:
        return x
    from torch.distributed.tensor import Shard, distribute_tensor

    rows = [Shard(0) if each.is_shard() else each for each in like.placements]
    placements = like.placements if x.shape == like.shape else rows
    return distribute_tensor(x, like.device_mesh, placements, src_data_rank=None)


def summed(part: torch.Tensor, like: Any) -> torch.Tensor:
    """The sum over all shards of a number of each; `like` says how they are sharded."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor, Partial, Replicate

    placements = [Partial() if each.is_shard() else Replicate() for each in like.placements]
    return DTensor.from_local(part, like.device_mesh, placements, run_check=False).full_tensor()
