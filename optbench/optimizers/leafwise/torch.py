"""Methods written once, as torch.optim classes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import torch

from optbench.fields import hyper
from optbench.optimizers.leafwise import At, Leafwise, torch_arrays
from optbench.protocol import Noise, Setting, role_of
from optbench.rules.arguments import rate
from optbench.rules.torch import SeedNoise, TorchRule
from optbench.rules.torch_optimizer import CheckedOptimizer, optimizer

ROLES = hyper(None, "role of parameters by name, where neither a group's `role` nor the shape tells it")
SEED = hyper(0, "seed of the first draws")


class LeafwiseOptimizer(CheckedOptimizer):
    """The frame of a method written once. A param group may have a `role`, which is that of its parameters."""

    kept: ClassVar[tuple[str, ...]] = ("roles", "noise")
    method: ClassVar[type[Leafwise]]
    wide_entries: ClassVar[tuple[str, ...] | None] = None

    def build(
        self,
        params: Any,
        *,
        roles: Mapping[str, str] | None = None,
        seed: int = 0,
        noise: Noise | None = None,
        **options: Any,
    ) -> None:
        self.roles, self.noise = roles, SeedNoise(seed) if noise is None else noise
        super().build(params, **options)

    def advance(self) -> None:
        xp, leaves = torch_arrays, list(self.leaves())
        if not leaves:
            return
        bound = {id(group): self.method().bind(group) for group in self.param_groups}
        first = self.param_groups[0]
        if "shared" not in first:
            first["shared"] = bound[id(first)].share(xp)
        steps = []
        for param, grad, state, group, name in leaves:
            method = bound[id(group)]
            role = group.get("role") or role_of(name, param.shape, self.roles)
            if not state:

                def normal(like: torch.Tensor, name: str = name) -> torch.Tensor:
                    return self.noise.normal(f"start.{name}", 0, like)

                state.update(step=0, **method.start(xp, param, role, normal))
            state["step"] += 1
            known = At(state["step"], group["lr"], role, first["shared"])
            steps.append((method, (grad, param, state), known))
        gathered = [method.gather(xp, *leaf, known) for method, leaf, known in steps]
        method, _, known = steps[0]
        first["shared"] = method.agree(xp, tuple(map(sum, zip(*gathered, strict=True))), known)
        for method, leaf, known in steps:
            leaf[1].add_(method.step(xp, *leaf, known._replace(shared=first["shared"])))


class AveragingOptimizer(LeafwiseOptimizer):
    """A method that is evaluated elsewhere than where it trains: call `eval()` before, and `train()` after."""

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
    options = [each.name for each in fields(declared) if each.name != "learning_rate"]
    base = AveragingOptimizer if declared.averages else LeafwiseOptimizer
    made: Any = type(
        declared.__name__,
        (base,),
        {"__doc__": declared.__doc__, "__module__": "optbench.optimizers.standard.torch", "method": declared},
    )
    names = f"lr * {' '.join(options)} roles {'seed noise' * declared.draws}"
    noise = hyper(None, "where the first draws come from; None draws from `seed`")
    return optimizer(declared, names, lr=rate(declared), roles=ROLES, seed=SEED, noise=noise)(made)


def rule(of: type[LeafwiseOptimizer], method: Leafwise, setting: Setting) -> TorchRule:
    given = {**method.options(), "roles": setting.roles}
    if method.draws:
        given["noise"] = setting.noise
    lr: Any = getattr(method, "learning_rate", 1.0)
    return TorchRule(lambda named: of(named, lr, **given), setting.factor)
