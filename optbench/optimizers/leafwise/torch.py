"""Methods written once, as torch.optim classes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch

from optbench.fields import hyper
from optbench.optimizers.adapter import option_names
from optbench.optimizers.leafwise import At, Leafwise, torch_arrays
from optbench.protocol import Setting, role_of
from optbench.rules.arguments import rate
from optbench.rules.torch import CurvatureRule, SeedNoise, TorchRule
from optbench.rules.torch_optimizer import CheckedOptimizer, Leaf, optimizer, value_of, wide
from optbench.rules.torch_shards import is_sharded, joined, local, mapped, spread, summed, whole

ROLES = hyper(None, "role of parameters by name, where neither a group's `role` nor the shape tells it")
SEED = hyper(0, "seed of the first draws")


class LeafwiseOptimizer(CheckedOptimizer):
    """The frame of a method written once. A param group may have a `role`, which is that of its parameters."""

    kept: ClassVar[tuple[str, ...]] = ("roles", "noise")
    method: ClassVar[type[Leafwise]]
    wide_entries: ClassVar[tuple[str, ...] | None] = None

    def build(
        self, params: Any, *, roles: Any = None, seed: int = 0, noise: Any = None, **options: Any
    ) -> None:
        self.roles, self.noise = dict(roles or {}), SeedNoise(seed) if noise is None else noise
        super().build(params, **options)
        named = any(group.get("param_names") for group in self.param_groups)
        if self.roles and not named and not self.roles.keys() & set(self.names().values()):
            raise ValueError(f"{self.owner}: roles are by name; give it model.named_parameters()")

    def ready(self, leaf: Leaf) -> None:
        param, _, state, group, name = leaf
        first = self.param_groups[0]
        if "shared" not in first:
            first["shared"] = self.method().bind(first).share(torch_arrays)
        if not state:
            method, seen = self.method().bind(group), Cut(param, self.method.elementwise).enter(param)
            draw = functools.partial(self.noise.normal, f"start.{name}", 0)
            state.update(step=0, **method.start(torch_arrays, seen, self.role(leaf), draw))
        state["step"] += 1

    def role(self, leaf: Leaf) -> str:
        given = leaf.group.get("role")
        return role_of(leaf.name, leaf.param.shape, {leaf.name: given} if given else self.roles)

    def advance(self, leaves: list[Leaf], diagonals: Mapping[Any, torch.Tensor] | None = None) -> None:
        """Step these parameters, with estimates of the Hessian's diagonal where there are some."""
        if not leaves:
            return
        xp, first, steps = torch_arrays, self.param_groups[0], []
        bound = {id(group): self.method().bind(group) for group in self.param_groups}
        for leaf in leaves:
            param, grad, state, group, _ = leaf
            cut = Cut(param, self.method.elementwise)
            held = state if cut.plain else mapped(cut.enter, state)
            diagonal = cut.enter(diagonals[param]) if diagonals and param in diagonals else None
            due = diagonal is not None
            known = At(state["step"], group["lr"], self.role(leaf), first["shared"], diagonal, due)
            steps.append((cut, bound[id(group)], (cut.enter(grad), cut.enter(param), held), known))
        gathered = [
            tuple(cut.summed(each) for each in method.gather(xp, *leaf, known))
            for cut, method, leaf, known in steps
        ]
        _, method, _, known = steps[0]
        sums = tuple(map(sum, zip(*gathered, strict=True)))
        first["shared"] = alike(method.agree(xp, sums, known), sums)
        for cut, method, leaf, known in steps:
            moved = method.step(xp, *leaf, known._replace(shared=first["shared"]))
            cut.param.add_(cut.leave(moved))
            if not cut.plain:
                self.state[cut.param].update(mapped(cut.leave, leaf[2]))


def alike(shared: dict[str, Any], sums: Sequence[Any]) -> dict[str, Any]:
    """What is shared, as tensors where sums of tensors enter it: a checkpoint wants one kind from the first step on."""
    if not sums:
        return shared
    return {
        name: x if isinstance(x, torch.Tensor) else torch.full_like(sums[0], x) for name, x in shared.items()
    }


class Cut(NamedTuple):
    """A parameter as its step sees it: in float32 at least, and whole where its processes have a shard each.

    A step of single entries is computed on the shards, any other from the whole arrays on every process. Arrays of the
    state are kept sharded, as the parameter is or by rows.
    """

    param: torch.Tensor
    elementwise: bool

    @property
    def plain(self) -> bool:
        """Whether the step may see the parameter and its state as they are."""
        return not is_sharded(self.param) and self.param.dtype in (torch.float32, torch.float64)

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        if self.plain:
            return x
        x = local(x) if self.elementwise else whole(x)
        return x.to(wide(x.dtype)) if x.is_floating_point() else x

    def leave(self, x: torch.Tensor) -> torch.Tensor:
        if self.plain:
            return x
        if not self.elementwise:
            return spread(x, self.param)
        return joined(x, self.param) if x.shape == local(self.param).shape else x

    def summed(self, x: torch.Tensor) -> torch.Tensor:
        """A sum over the entries of a shard, over all shards."""
        return summed(x, self.param) if self.elementwise else x


class CurvedOptimizer(LeafwiseOptimizer):
    """A method that is given Hessian-vector products: `step(hvp=, vector=)`, lists in the order of the groups."""

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        hvp: Sequence[torch.Tensor] | None = None,
        vector: Sequence[torch.Tensor] | None = None,
        update_preconditioner: bool | None = None,
    ) -> Any:
        loss = value_of(closure)
        diagonals = None
        if hvp is not None and vector is not None and update_preconditioner is not False:
            diagonals = {p: product * v for p, (product, v) in self.beside(hvp, vector).items()}
        self.advance(self.prepared(), diagonals)
        return loss


class AveragingOptimizer(LeafwiseOptimizer):
    """A method that is evaluated elsewhere than where it trains: call `eval()` before, and `train()` after."""

    def ready(self, leaf: Leaf) -> None:
        if "trained" in leaf.state:
            raise RuntimeError(f"{self.owner}: this step would be lost after eval(). Call train() before it")
        super().ready(leaf)

    @torch.no_grad()
    def eval(self) -> None:
        for group in self.param_groups:
            method = self.method().bind(group)
            for param in group["params"]:
                state = self.state[param]
                if state and "trained" not in state:
                    state["trained"] = param.clone()
                    param.copy_(method.evaluated(torch_arrays, param, state))

    @torch.no_grad()
    def train(self) -> None:
        for param, state in self.state.items():
            if "trained" in state:
                param.copy_(state.pop("trained"))


@functools.cache
def class_of(declared: type[Leafwise]) -> type[LeafwiseOptimizer]:
    """The torch.optim class of a method."""
    base = AveragingOptimizer if declared.averages else LeafwiseOptimizer
    base = base if declared.order == 1 else CurvedOptimizer
    home = {"__doc__": declared.__doc__, "__module__": "optbench.optimizers.standard.torch"}
    made: Any = type(declared.__name__, (base,), {**home, "method": declared})
    names = f"lr * {' '.join(option_names(declared))} roles {'seed noise' * declared.draws}"
    noise = hyper(None, "where the first draws come from; None draws from `seed`")
    return optimizer(declared, names, lr=rate(declared), roles=ROLES, seed=SEED, noise=noise)(made)


def rule(method: Leafwise, setting: Setting) -> TorchRule:
    given = {**method.options(), "roles": setting.roles}
    if method.draws:
        given["noise"] = setting.noise
    make = functools.partial(class_of(type(method)), lr=getattr(method, "learning_rate", 1.0), **given)
    if method.order == 1:
        return TorchRule(make, setting.factor)
    from optbench.optimizers.esgd.torch import signs

    return CurvatureRule(make, setting.factor, method.due, functools.partial(signs, setting.noise))
