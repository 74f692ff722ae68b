"""Adam's variants: a running mean of gradients over the root of a running mean of squares."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from optbench.core import hyper
from optbench.optimizers.adapter import Standard, decay, declared, small, step_size, weight_decay

Rate = Callable[[Any], Any]


@declared
class AMSGrad(Standard):
    """Adam with the largest mean of squares so far.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- max(w, v)
    theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(w / (1 - b2^t)) + eps)

    The maximum is over the uncorrected v, as in torch; `optax.amsgrad` takes it over the corrected one.
    """

    name: ClassVar[str] = "amsgrad"
    source: ClassVar[str] = "arXiv:1904.09237; optax.scale_by_amsgrad, torch.optim.Adam"
    memory: ClassVar[str] = "3n"
    arrays: ClassVar[int] = 3

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the mean of gradients")
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-8)

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.scale_by_amsgrad, corrected after the maximum."""
        from optbench.optimizers.standard.jax import amsgrad

        return amsgrad(rate, self.b1, self.b2, self.eps)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        """torch.optim.Adam."""
        options = {"betas": (self.b1, self.b2), "eps": self.eps, "amsgrad": True, "foreach": True}
        return partial(optim.Adam, lr=self.learning_rate, **options)


@declared
class Adamax(Standard):
    """Adam with a decaying maximum in place of the root of the mean of squares.

    m <- b1 m + (1 - b1) g;  u <- max(b2 u, |g| + eps)
    theta <- theta - learning_rate m / (1 - b1^t) / u
    """

    name: ClassVar[str] = "adamax"
    source: ClassVar[str] = "arXiv:1412.6980; optax.adamax, torch.optim.Adamax"
    memory: ClassVar[str] = "2n"
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.002, 1e-4)
    b1: float = decay(0.9, "the mean of gradients")
    b2: float = decay(0.999, "the maximum")
    eps: float = small(1e-8, "added to the gradient's size")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.adamax."""
        return optax.adamax(rate, self.b1, self.b2, self.eps)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        """torch.optim.Adamax."""
        options = {"betas": (self.b1, self.b2), "eps": self.eps, "foreach": True}
        return partial(optim.Adamax, lr=self.learning_rate, **options)


@declared
class NAdam(Standard):
    """Adam that looks ahead as Nesterov's momentum does; weight decay is decoupled.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    n = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)
    theta <- theta - learning_rate (n / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)

    The momentum is constant, as in optax; torch's own lets b1 rise over the first thousand steps
    (`momentum_decay`), which `torch:NAdam` gives.
    """

    name: ClassVar[str] = "nadam"
    source: ClassVar[str] = "Dozat 2016; optax.nadamw, torch.optim.NAdam"
    memory: ClassVar[str] = "2n"
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.002, 1e-4)
    b1: float = decay(0.9, "the mean of gradients")
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.nadamw."""
        return optax.nadamw(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        """torch.optim.NAdam; 0.96 to an infinite power is 0, and the momentum b1 from the first step."""
        from optbench.optimizers.standard.torch import nadam

        return partial(
            nadam,
            lr=self.learning_rate,
            betas=(self.b1, self.b2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            momentum_decay=float("inf"),
            decoupled_weight_decay=True,
            foreach=True,
        )


@declared
class RAdam(Standard):
    """Adam that steps along its momentum until the variance of its divisor can be reckoned, then rectifies it.

    p = 2 / (1 - b2) - 1;  p_t = p - 2 t b2^t / (1 - b2^t);  m and v as Adam's
    r = sqrt((p_t - 4) (p_t - 2) p / ((p - 4) (p - 2) p_t))
    theta <- theta - learning_rate r m / (1 - b1^t) sqrt(1 - b2^t) / (sqrt(v) + eps)    if p_t > 5
    theta <- theta - learning_rate m / (1 - b1^t)                                       else

    eps stands beside the uncorrected root, as in torch; `optax.radam` has it beside the corrected one, and loses
    r to rounding in float32.
    """

    name: ClassVar[str] = "radam"
    source: ClassVar[str] = "arXiv:1908.03265; as optax.radam, torch.optim.RAdam"
    memory: ClassVar[str] = "2n"
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the mean of gradients")
    b2: float = hyper(0.999, "decay of the mean of squares", bounds="(0.6, 1)")
    eps: float = small(1e-8)

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """RAdam with torch's eps."""
        from optbench.optimizers.standard.jax import radam

        return radam(rate, self.b1, self.b2, self.eps)

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        """torch.optim.RAdam."""
        options = {"betas": (self.b1, self.b2), "eps": self.eps, "foreach": True}
        return partial(optim.RAdam, lr=self.learning_rate, **options)


@declared
class AdaBelief(Standard):
    """Adam that divides by how far gradients fall from their mean.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) (g - m)^2 + eps_root
    theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    """

    name: ClassVar[str] = "adabelief"
    source: ClassVar[str] = "arXiv:2010.07468; optax.adabelief"
    memory: ClassVar[str] = "2n"
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the mean of gradients")
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-16)
    eps_root: float = small(1e-16, "added to the mean of squares at each step")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.adabelief."""
        return optax.adabelief(rate, self.b1, self.b2, self.eps, self.eps_root)


@declared
class Yogi(Standard):
    """Adam whose mean of squares moves by at most the new square, whatever its size.

    m <- b1 m + (1 - b1) g;  v <- v - (1 - b2) sign(v - g^2) g^2
    theta <- theta - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    Both start from 1e-6, as in optax.
    """

    name: ClassVar[str] = "yogi"
    source: ClassVar[str] = "Zaheer et al. 2018 (NeurIPS); optax.yogi"
    memory: ClassVar[str] = "2n"
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.01, 1e-4)
    b1: float = decay(0.9, "the mean of gradients")
    b2: float = decay(0.999, "the squares")
    eps: float = small(1e-3)

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.yogi."""
        return optax.yogi(rate, self.b1, self.b2, self.eps)


@declared
class AcProp(Standard):
    """AdaBelief's divisor, one step old, under the gradient itself.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) (g - m_{t-1})^2 + eps_root
    theta <- theta - learning_rate (g / (sqrt(v_{t-1} / (1 - b2^(t-1))) + eps) + weight_decay theta)

    The divisor of the first step is 1.
    """

    name: ClassVar[str] = "acprop"
    source: ClassVar[str] = "arXiv:2110.05454; optax.contrib.acprop"
    memory: ClassVar[str] = "2n"
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the mean of gradients")
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-16)
    eps_root: float = small(1e-16, "added to the mean of squares at each step")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.contrib.acprop."""
        return optax.contrib.acprop(rate, self.b1, self.b2, self.eps, self.eps_root, self.weight_decay)


@declared
class Adan(Standard):
    """Nesterov's momentum as three means: of gradients, of their differences, of the squares of both.

    d = g_t - g_{t-1};  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) d
    n <- b3 n + (1 - b3) (g + (1 - b2) d)^2;  all corrected as Adam's
    theta <- theta - learning_rate ((m + (1 - b2) v) / (sqrt(n + eps_root) + eps) + weight_decay theta)

    b2 weighs the differences by 1 - b2, as in optax: the paper's decays are one minus these.
    """

    name: ClassVar[str] = "adan"
    source: ClassVar[str] = "arXiv:2208.06677; optax.adan"
    memory: ClassVar[str] = "4n"
    arrays: ClassVar[int] = 4

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.98, "the mean of gradients")
    b2: float = decay(0.92, "the mean of differences")
    b3: float = decay(0.99, "the mean of squares")
    eps: float = small(1e-8)
    eps_root: float = small(1e-8, "added inside the root")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.adan."""
        return optax.adan(
            rate, self.b1, self.b2, self.b3, self.eps, self.eps_root, weight_decay=self.weight_decay
        )


@declared
class OptimisticAdam(Standard):
    """Adam's step plus how it changed; made for games.

    u = Adam's step (with Nesterov's look ahead);  theta <- theta - learning_rate ((alpha + beta) u_t - beta u_{t-1})
    """

    name: ClassVar[str] = "optimistic_adam"
    source: ClassVar[str] = "arXiv:1711.00141; optax.optimistic_adam_v2"
    memory: ClassVar[str] = "3n"
    arrays: ClassVar[int] = 3

    learning_rate: float = step_size(0.001, 1e-4)
    alpha: float = hyper(1.0, "weight of the step", bounds="(0, inf)")
    beta: float = hyper(1.0, "weight of its change", bounds="[0, inf)")
    b1: float = decay(0.9, "the mean of gradients")
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-8)

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.optimistic_adam_v2."""
        weights = {"alpha": self.alpha, "beta": self.beta}
        return optax.optimistic_adam_v2(rate, **weights, b1=self.b1, b2=self.b2, eps=self.eps)


@declared
class Adopt(Standard):
    """Adam that divides each gradient by the mean of squares before it, then averages: converges for any b2.

    u = clip(g / max(sqrt(v), eps), t^(1/4));  m <- b1 m + (1 - b1) u;  v <- b2 v + (1 - b2) g^2
    theta <- theta - learning_rate m

    The first gradient only sets v.
    """

    name: ClassVar[str] = "adopt"
    source: ClassVar[str] = "arXiv:2411.02853; optax.contrib.adopt"
    memory: ClassVar[str] = "2n"
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the mean of steps")
    b2: float = decay(0.9999, "the mean of squares")
    eps: float = small(1e-6, "least divisor")
    clipped: bool = hyper(True, "clip each entry to the fourth root of t", choices=(True, False))

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.contrib.adopt."""
        return optax.contrib.adopt(rate, self.b1, self.b2, self.eps, use_clipping=self.clipped)


@declared
class AdEMAMix(Standard):
    """Adam with a second, much slower mean of gradients added.

    m <- b1 m + (1 - b1) g;  s <- b3 s + (1 - b3) g;  v <- b2 v + (1 - b2) g^2
    theta <- theta - learning_rate ((m / (1 - b1^t) + alpha s) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)

    The paper lets alpha and b3 rise at first; here they are constant.
    """

    name: ClassVar[str] = "ademamix"
    source: ClassVar[str] = "arXiv:2409.03137; optax.contrib.ademamix"
    memory: ClassVar[str] = "3n"
    arrays: ClassVar[int] = 3

    learning_rate: float = step_size(0.001, 1e-5)
    b1: float = decay(0.9, "the fast mean of gradients")
    b2: float = decay(0.999, "the mean of squares")
    b3: float = decay(0.9999, "the slow mean of gradients")
    alpha: float = hyper(5.0, "weight of the slow mean", bounds="[0, inf)")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.contrib.ademamix."""
        means = (self.b1, self.b2, self.b3, self.alpha, self.eps)
        return optax.contrib.ademamix(rate, *means, weight_decay=self.weight_decay)


@declared
class SimplifiedAdEMAMix(Standard):
    """Adam with a sum in place of the mean of gradients, and the gradient itself added.

    m <- b1 m + g;  v <- b2 v + (1 - b2) g^2
    theta <- theta - learning_rate ((m + alpha g) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay theta)
    """

    name: ClassVar[str] = "simplified_ademamix"
    source: ClassVar[str] = "arXiv:2502.02431; optax.contrib.simplified_ademamix"
    memory: ClassVar[str] = "2n"
    arrays: ClassVar[int] = 2

    learning_rate: float = step_size(1e-4, 1e-5)
    b1: float = decay(0.99, "the sum of gradients")
    b2: float = decay(0.95, "the mean of squares")
    alpha: float = hyper(0.0, "weight of the gradient", bounds="[0, inf)")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.contrib.simplified_ademamix."""
        sums = (self.b1, self.b2, self.alpha, self.eps)
        return optax.contrib.simplified_ademamix(rate, *sums, weight_decay=self.weight_decay)
