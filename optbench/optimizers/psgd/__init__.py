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

from collections.abc import Callable
from typing import Any, ClassVar

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import Room, decay, declared, flag, step_size, weight_decay
from optbench.protocol import Rule, Setting
from optbench.rules.arguments import field

BALANCE_PROBABILITY = 0.01
FORCED_FITS = 2
"""In whitening the first two steps always fit the preconditioner, whatever the update probability."""


def check_release(owner: str, upstream: bool | str | None, releases: tuple[str, ...]) -> str | None:
    """The release whose numerics are asked for: None is ours, True the newest of `releases`."""
    if upstream is None or upstream is False:
        return None
    if upstream is True:
        return releases[0]
    if upstream not in releases:
        raise ValueError(f"{owner}: upstream={upstream!r} is not True, False or one of {', '.join(releases)}")
    return upstream


class CurvatureRoom(Room):
    """A room whose factory and class take gradients (mode 'whitening') or Hessian-vector products (mode 'hessian')."""

    draws: ClassVar[bool] = True
    mode: Any
    preconditioner_update_probability: float

    def due_hvps(self, steps: int) -> int:
        """One at each step; none in whitening. With an update probability below 1 this is the most."""
        return steps if self.mode == "hessian" else 0

    def jax_rule(self, factory: Callable[..., Any], setting: Setting) -> Rule:
        from optbench.optimizers.psgd.jax_curvature import hessian_rule

        if self.mode == "whitening":
            return super().jax_rule(factory, setting)
        probability = self.preconditioner_update_probability
        return hessian_rule(self.transformation(factory, setting), setting.noise, probability)

    def torch_rule(self, method: Callable[..., Any], setting: Setting) -> Rule:
        """The parameters are in JAX's leaf order, so that the factors agree."""
        from optbench.optimizers.psgd.torch_curvature import hessian_rule

        def make(named: Any, *args: Any, **options: Any) -> Any:
            return method(sorted(named), *args, **options)

        rule: Any = super().torch_rule(make, setting)
        if self.mode == "whitening":
            return rule
        return hessian_rule(rule.make, setting, self.preconditioner_update_probability)


@declared
class GroupOptimizer(CurvatureRoom):
    """The fields of XMat, LRA and Affine, and the rule built from a factory with the originals' names."""

    releases: ClassVar[tuple[str, ...]] = ("0.2.9",)

    learning_rate: float = step_size(0.01, 1e-4)
    mode: str = hyper(
        "whitening", "fit to gradients, or to Hessian-vector products", choices=("whitening", "hessian")
    )
    preconditioner_update_probability: float = hyper(
        1.0, "probability of a fit at a step of whitening; steps 1 and 2 always fit", bounds="(0, 1]"
    )
    b1: float = decay(0.9, "the momentum; 0 keeps none", MOMENTUM)
    nesterov: bool = flag(False, "look ahead along the momentum")
    weight_decay: float = weight_decay()
    precond_lr: float = hyper(0.1, "step size of the preconditioner's fit", bounds="(0, inf)")
    precond_init_scale: float | None = hyper(
        None,
        "scale of the first Q; None takes it from the first gradient that is not zero",
        bounds="(0, inf)",
    )
    update_global_norm_clip: float | None = hyper(
        None, "largest l2 norm of the whole update before decay and learning rate", bounds="(0, inf)"
    )
    step_normalizer_order: str = hyper(
        "2nd",
        "what the fit's step is divided by: a bound of the 2nd or 1st derivative",
        choices=("2nd", "1st"),
    )

    def options(self) -> dict[str, Any]:
        return {name: value for name, value in super().options().items() if name != "mode"}


# --- what is used alone takes beside the fields --------------------------------------------------------------

SHARED = {
    "mu_dtype": hyper(None, "dtype in which the momentum is kept; None is the parameter's"),
    "noise": hyper(None, "where draws come from; None draws from `seed`"),
}
"""All of PSGD in either framework."""
MASK = hyper(None, "tree of bool, or a callable on the parameters, that restricts the decay")
KEY = "an integer or a JAX key of the default noise; give two optimizers different ones"
SEED = "seed of the default noise; give two optimizers different ones"
PRECOND_LR = field(GroupOptimizer, "precond_lr", doc="step size of the fit, or a schedule of the step from 1")
UPSTREAM = hyper(
    None,
    "True or a release of psgd-jax brings its faults back: an all-zero first gradient makes the state non-finite for "
    "ever, and a first Hessian step without a fit loses the first scale",
)
