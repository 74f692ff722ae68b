"""The three update rules of ngc-learn: Adam, Nesterov's accelerated gradient, gradient descent.

ngc-learn subtracts what it is given, so gradients descend. Its compiled steps take a hyperparameter that they are
given as a number of the run's dtype, and a default as a Python float; here too a decay is rounded to the parameter's
dtype, float32 at least, before it is subtracted from 1, unless it is the default: in float32 1 - b2 is 0.001 for
b2 = 0.999, and 1 - 0.99000001 for b2 = 0.99. Its functional interface is `optbench.optimizers.ngc.functional`,
for tensors `optbench.optimizers.ngc.torch_functional`.

Source: package ngclearn 3.2.1 (commit 6cfadd5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, Signature
from numbers import Real
from typing import Any, ClassVar

from optbench.fields import MOMENTUM, hyper, nearest
from optbench.optimizers.adapter import Room, decay, declared, small, step_size


@declared
class NgcAdam(Room):
    """Adam as in ngc-learn.

    At step t = 1, 2, ... with gradient g:

        g1 <- b1 g1 + (1 - b1) g
        g2 <- b2 g2 + (1 - b2) g^2
        theta <- theta - learning_rate (g1 / (1 - b1^t)) / (sqrt(g2 / (1 - b2^t)) + eps)

    Source: Kingma, Ba, Adam: A Method for Stochastic Optimization, arXiv:1412.6980; package ngclearn 3.2.1.
    """

    source: ClassVar[str] = "arXiv:1412.6980; ngclearn 3.2.1"
    arrays: ClassVar[int] = 2
    elementwise: ClassVar[bool] = True

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the average gradient", MOMENTUM)
    b2: float = decay(0.999, "the average square")
    eps: float = small(1e-8, "added to the divisor")

    def options(self) -> dict[str, Any]:
        return {"beta1": self.b1, "beta2": self.b2, "eps": self.eps}


@declared
class NgcNag(Room):
    """Nesterov's accelerated gradient as in ngc-learn.

    At step t = 1, 2, ... with gradient g:

        phi' = theta - learning_rate g
        theta <- phi' + momentum (phi' - phi)     without the second term at t = 1
        phi <- phi'

    The learning rate enters the plain step only: a schedule scales that, not what the last move adds.

    Source: Nesterov, A method for solving the convex programming problem with convergence rate O(1/k^2),
    1983; package ngclearn 3.2.1.
    """

    source: ClassVar[str] = "Nesterov 1983; ngclearn 3.2.1"
    arrays: ClassVar[int] = 1
    elementwise: ClassVar[bool] = True
    proportional: ClassVar[bool] = False

    learning_rate: float = step_size(0.01, 1e-4)
    momentum: float = hyper(
        0.9, "weight of the last move (mu in ngc-learn)", bounds="[0, 1)", lane=True, search=MOMENTUM
    )

    def options(self) -> dict[str, Any]:
        return {"mu": self.momentum}


@declared
class NgcSgd(Room):
    """Gradient descent as in ngc-learn.

    theta <- theta - learning_rate g

    Source: package ngclearn 3.2.1.
    """

    source: ClassVar[str] = "ngclearn 3.2.1"
    memory: ClassVar[str] = "0"
    elementwise: ClassVar[bool] = True

    learning_rate: float = step_size(0.001, 1e-4)


def weight(decay: Any, default: float, rounded: Any) -> Any:
    """1 - decay, the weight of what is new: from the rounded decay, unless it is the default."""
    return 1 - (decay if isinstance(decay, Real) and decay == default else rounded)


# --- the functional interface -------------------------------------------------------------------------------


GIVEN = ("opt_params", "theta", "updates")
"""What a step takes before its hyperparameters."""


def rule(
    name: str, np: Any, dtype: Any, update: Callable[..., Any], kept: int, **defaults: float
) -> tuple[Callable, Callable]:
    """A rule's init and its step of a list, from its step of one array, which keeps so many arrays of its shape.

    `np` is jax.numpy or torch; what is kept has the `dtype`, None that of the array.
    """
    kind = Parameter.POSITIONAL_OR_KEYWORD
    known = [Parameter(x, kind, default=defaults.get(x, Parameter.empty)) for x in (*GIVEN, *defaults)]
    signature = Signature(known)

    def init(theta: Any) -> Any:
        """The state before the first step: what is kept of each array, and the number of steps."""
        zeros = [[np.zeros_like(leaf, dtype=dtype) for leaf in theta] for _ in range(kept)]
        return (*zeros, np.asarray(0.0)) if kept else np.asarray(0.0)

    def step(*values: Any, **named: Any) -> tuple[Any, list]:
        """One step of a list of arrays: the new state and the new list."""
        bound = signature.bind(*values, **named)
        bound.apply_defaults()
        opt_params, theta, updates = map(bound.arguments.pop, GIVEN)
        *states, time_step = opt_params if kept else (opt_params,)
        time_step = time_step + 1
        options = bound.arguments | ({"time_step": time_step} if kept else {})
        new = [update(*row, **options) for row in zip(theta, updates, *states, strict=True)]
        if not kept:
            return time_step, new
        made, *held = ([row[i] for row in new] for i in range(kept + 1))
        return (*held, time_step), made

    vars(step)["__signature__"] = signature
    init.__name__, step.__name__ = f"{name}_init", f"{name}_step"  # as profilers show them
    return init, step


def interface(
    rules: Mapping[str, tuple[Callable, Callable]],
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`get_opt_init_fn` and `get_opt_step_fn` for the init and the step of each rule."""

    def rule_of(opt: str) -> tuple[Callable, Callable]:
        if opt not in rules:
            raise KeyError(f"ngc: optimizer {opt!r} is not known. {nearest(opt, rules)}")
        return rules[opt]

    def get_opt_init_fn(opt: str = "adam") -> Callable[[Any], Any]:
        """The function that makes the state of `adam`, `nag` or `sgd` from a list of arrays."""
        return rule_of(opt)[0]

    def get_opt_step_fn(opt: str = "adam", **hyperparameters: Any) -> Callable[..., tuple[Any, list]]:
        """The step of `adam`, `nag` or `sgd` with these hyperparameters."""
        return partial(rule_of(opt)[1], **hyperparameters)

    return get_opt_init_fn, get_opt_step_fn
