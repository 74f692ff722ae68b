"""Steps that see a layer as a whole: in proportion to its norm, or with its singular values made equal."""

from __future__ import annotations

from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.optimizers.adam import Moments
from optbench.optimizers.adapter import (
    Rate,
    Standard,
    decay,
    declared,
    flag,
    size,
    small,
    step_size,
    weight_decay,
)
from optbench.protocol import Shapes


@declared
class LARS(Standard):
    """Gradients scaled to a fraction of their layer's norm, then momentum.

    u = g + weight_decay theta;  u <- trust |theta| / (|u| + eps) u for each leaf (u where a norm is 0)
    m <- momentum m + learning_rate u;  theta <- theta - m

    The learning rate enters before the momentum: a schedule scales what comes, not what is carried on. timm's LARS has
    no momentum by default, divides by |g| + weight_decay |theta|, and leaves groups without decay at plain descent.
    """

    source: ClassVar[str] = "arXiv:1708.03888; optax.lars"
    proportional: ClassVar[bool] = False
    arrays: ClassVar[int] = 1

    learning_rate: float = step_size(1.0, 1e-2)
    momentum: float = decay(0.9, "the sum of steps")
    trust: float = hyper(0.001, "step relative to the norm of the layer", bounds="(0, inf)")
    eps: float = small(0.0, "added to the norm")
    nesterov: bool = flag(False, "look ahead")
    weight_decay: float = weight_decay(0.0, "weight decay, added to the gradient")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        options = {"eps": self.eps, "momentum": self.momentum, "nesterov": self.nesterov}
        return optax.lars(rate, self.weight_decay, trust_coefficient=self.trust, **options)


@declared
class LAMB(Moments):
    """Adam's step scaled to the norm of its layer.

    u = Adam's step + weight_decay theta;  theta <- theta - learning_rate |theta| / |u| u for each leaf

    The ratio is 1 where a norm is 0. By default timm's LAMB and apex's FusedLAMB decay by 0.01 and clip the gradient of
    all leaves to norm 1 first, and torch_optimizer's has no bias corrections and clamps |theta| to 10.
    """

    source: ClassVar[str] = "arXiv:1904.00962; optax.lamb"

    learning_rate: float = step_size(0.01, 1e-4)
    eps: float = small(1e-6)
    weight_decay: float = weight_decay(0.0, "weight decay, inside the scaled step")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.lamb(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay)


@declared
class Fromage(Standard):
    """Steps relative to each layer's norm, then a contraction that keeps the norm from growing.

    u = max(|theta|, min_norm) / max(|g|, min_norm) g for each leaf
    theta <- (theta - learning_rate u) / sqrt(1 + learning_rate^2)

    The contraction depends on the learning rate too, so a schedule does not scale the step alone.
    """

    source: ClassVar[str] = "arXiv:2002.03432; optax.fromage"
    proportional: ClassVar[bool] = False

    learning_rate: float = step_size(0.01, 1e-4)
    min_norm: float = hyper(1e-6, "least norm of parameters and gradients", bounds="(0, inf)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.fromage(rate, self.min_norm)


@declared
class Muon(Standard):
    """Momentum whose matrices are made orthogonal; everything that is no matrix goes by Adam.

    m <- b1 m + (1 - b1) g, corrected and looked ahead;  O = five Newton-Schulz steps towards U V' of m = U S V'
    theta <- theta - learning_rate sqrt(max(1, out / in)) O                        [out, in] matrices

    Leaves with more axes are matrices [out, all others]. Not in torch: torch.optim.Muon works in bfloat16 and
    refuses what is no matrix; `torch:Muon` is it.
    """

    source: ClassVar[str] = "Jordan et al. 2024, kellerjordan.github.io/posts/muon; optax.contrib.muon"
    memory: ClassVar[str] = "n for matrices, 2n for the rest"

    learning_rate: float = step_size(0.02, 1e-4)
    b1: float = decay(0.95, "the momentum")
    nesterov: bool = flag(True, "look ahead")
    adam_b1: float = decay(0.9, "Adam's mean of gradients")
    adam_b2: float = decay(0.999, "Adam's mean of squares")
    eps: float = small(1e-8, "added to norms and roots")
    weight_decay: float = weight_decay(0.0, "decoupled weight decay of the matrices")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import muon_axes

        adam = {"adam_b1": self.adam_b1, "adam_b2": self.adam_b2, "eps": self.eps}
        options = {"beta": self.b1, "nesterov": self.nesterov, "weight_decay": self.weight_decay}
        return optax.contrib.muon(rate, **options, **adam, muon_weight_dimension_numbers=muon_axes)

    def state_floats(self, shapes: Shapes) -> int:
        return size(shapes) + size({name: shape for name, shape in shapes.items() if len(shape) < 2})
