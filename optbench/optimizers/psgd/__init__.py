"""What the PSGD methods on one matrix group share, whatever the framework: fields, ranges and releases.

XMat, LRA and Affine differ in the group their factor Q lives on; the frame around it is the same:

    h = g, v ~ N(0, I)                       whitening: fit E[(Qh)(Qh)^T] = I
    h = H v, v ~ N(0, I)                     hessian: fit P = Q^T Q to |H|^-1
    Q <- s Q once, before the first fit      s^4 = n / |h|^2 (whitening) or |v|^2 / |h|^2 (hessian)
    Q <- Q - precond_lr (relative gradient of  h^T P h + v^T P^-1 v) Q
    m <- b1 m + (1 - b1) g                   u = P m / (1 - b1^t)
    theta <- theta - learning_rate (u + weight_decay theta)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import MOMENTUM, hyper
from optbench.optimizer import Optimizer
from optbench.protocol import Rule, Setting
from optbench.ranges import require

BALANCE_PROBABILITY = 0.01
FORCED_FITS = 2
"""In whitening the first two steps always fit the preconditioner, whatever the update probability."""

RANGES = {
    "b1": "[0, 1)",
    "weight_decay": "[0, inf)",
    "precond_lr": "(0, inf)",
    "precond_init_scale": "(0, inf)",
    "preconditioner_lr": "(0, inf)",
    "preconditioner_init_scale": "(0, inf)",
    "preconditioner_update_probability": "(0, 1]",
    "update_global_norm_clip": "(0, inf)",
    "uvd_rank_of_approximation": "[1, inf)",
    "max_size_triangular": "[0, inf)",
    "min_ndim_triangular": "[0, inf)",
    "max_skew_triangular": "(0, inf)",
    "lr": "[0, inf)",
}
"""The allowed range of each hyperparameter; None, schedules and traced numbers are not checked."""


def check_ranges(owner: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError, naming field, value and allowed range, for a number outside its range."""
    for name, value in values.items():
        if value is not None and not callable(value):
            require(owner, RANGES[name], **{name: value})


def check_release(owner: str, upstream: bool | str | None, releases: tuple[str, ...]) -> str | None:
    """The release whose numerics are asked for: None is ours, True the newest of `releases`."""
    if upstream is None or upstream is False:
        return None
    if upstream is True:
        return releases[0]
    if upstream not in releases:
        raise ValueError(f"{owner}: upstream={upstream!r} is not True, False or one of {', '.join(releases)}")
    return upstream


def at(given: Any, t: Any) -> Any:
    """A number, or a schedule's value at step t."""
    return given(t) if callable(given) else given


@dataclass(frozen=True, kw_only=True)
class GroupOptimizer(Optimizer):
    """The fields of XMat, LRA and Affine, and the rule built from a factory with the originals' names."""

    order: ClassVar[int] = 1

    learning_rate: float = hyper(0.01, "step size", bounds="(0, inf)", lane=True, sweep=(1e-4, 1.0))
    mode: str = hyper(
        "whitening", "fit to gradients, or to Hessian-vector products", choices=("whitening", "hessian")
    )
    preconditioner_update_probability: float = hyper(
        1.0, "rate of preconditioner updates, drawn at each step", bounds="(0, 1]"
    )
    b1: float = hyper(0.9, "decay of the momentum; 0 keeps none", bounds="[0, 1)", search=MOMENTUM)
    nesterov: bool = hyper(False, "look ahead along the momentum", choices=(True, False))
    weight_decay: float = hyper(0.0, "decoupled weight decay", bounds="[0, inf)")
    precond_lr: float = hyper(0.1, "step size of the preconditioner's fit", bounds="(0, inf)")
    precond_init_scale: float | None = hyper(
        None, "scale of the first preconditioner; None takes it from the data", bounds="(0, inf)"
    )
    update_global_norm_clip: float | None = hyper(
        None, "largest l2 norm of the whole update before the learning rate", bounds="(0, inf)"
    )
    step_normalizer_order: str = hyper("2nd", "what the fit's step is divided by", choices=("2nd", "1st"))

    def options(self) -> dict[str, Any]:
        """The arguments that both frameworks' factories share, by their original names."""
        return {
            "preconditioner_update_probability": self.preconditioner_update_probability,
            "b1": self.b1,
            "nesterov": self.nesterov,
            "weight_decay": self.weight_decay,
            "precond_lr": self.precond_lr,
            "precond_init_scale": self.precond_init_scale,
            "update_global_norm_clip": self.update_global_norm_clip,
            "step_normalizer_order": self.step_normalizer_order,
        }

    def due_hvps(self, steps: int) -> int:
        """One at each step; none in whitening. With an update probability below 1 this is the most."""
        return steps if self.mode == "hessian" else 0

    def jax_rule(self, factory: Callable[..., Any], setting: Setting) -> Rule:
        """The optax transformation as a rule."""
        from optbench.optimizers.psgd.jax_curvature import hessian_rule
        from optbench.rules.optax import OptaxRule

        rate = self.learning_rate
        transform = factory(lambda t: rate * setting.factor(t), noise=setting.noise, **self.options())
        if self.mode == "whitening":
            return OptaxRule(transform)
        return hessian_rule(transform, setting.noise, self.preconditioner_update_probability)

    def torch_rule(self, make: Callable[..., Any], setting: Setting) -> Rule:
        """The torch.optim class as a rule; parameters in JAX's leaf order, so that the factors agree."""
        from optbench.optimizers.psgd.torch_curvature import hessian_rule
        from optbench.rules.torch import TorchRule

        def build(named: Any) -> Any:
            return make(sorted(named), lr=self.learning_rate, noise=setting.noise, **self.options())

        if self.mode == "whitening":
            return TorchRule(build, setting.factor)
        return hessian_rule(build, setting, self.preconditioner_update_probability)
