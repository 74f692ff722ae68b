"""Methods written once for both frameworks: the step of one parameter, in operations that both have.

`xp` is a module, `leafwise.jax_arrays` or `leafwise.torch_arrays`: `xp.np` is jax.numpy or torch, and its functions are
what the two have by different names. From the one step `leafwise.jax` makes an optax transformation and
`leafwise.torch` a torch.optim class; both are used alone too.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from optbench.optimizers.adapter import Standard
from optbench.protocol import Rule, Setting

State = dict[str, Any]


class At(NamedTuple):
    """What the step of a parameter knows beside its gradient, its value and its state."""

    t: Any
    """The number of the step, from 1."""
    lr: Any
    """The learning rate under the schedule."""
    role: str
    """One of `protocol.ROLES`."""
    shared: State
    """What all parameters share, after `agree`."""
    diagonal: Any = None
    """An estimate of the Hessian's diagonal, for methods of order 2; None in PyTorch where `due` is false."""
    due: Any = False
    """Whether this step has an estimate."""


class Leafwise(Standard):
    """A method whose step is written once. A subclass overrides `step`, and `start` where `slots` do not say it."""

    slots: ClassVar[tuple[str, ...]] = ()
    """The arrays of a parameter's state that are zeros like it before its first step."""
    stacks: ClassVar[bool] = False
    """Whether JAX steps matrices of equal shape together; pays where a step is many small products."""
    draws: ClassVar[bool] = False
    """Whether `start` draws."""
    shapes: ClassVar[tuple[str, ...]] = ()
    """Its numbers, beside whole ones, that choose the shapes of the state."""
    averages: ClassVar[bool] = False
    """Whether `evaluated` gives other parameters than those that are trained."""

    def __init_subclass__(cls, **facts: Any) -> None:
        own = vars(cls) | facts
        if "slots" in own and "arrays" not in own:
            facts["arrays"] = len(own["slots"])
        super().__init_subclass__(**facts)

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        """The state of a parameter before its first step; `normal(like)` draws if `draws`."""
        return {name: xp.zeros(p) for name in self.slots}

    def due(self, t: Any) -> Any:
        """Whether step t, counted from 0, is given a Hessian-vector product."""
        return False

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        """The update, theta <- theta + update; writes the new state into `s`."""
        raise NotImplementedError

    def share(self, xp: Any) -> State:
        """What all parameters share, before the first step."""
        return {}

    def gather(self, xp: Any, g: Any, p: Any, s: State, at: At) -> tuple[Any, ...]:
        """Numbers of one parameter that are summed over all before the steps; may write into `s`."""
        return ()

    def agree(self, xp: Any, sums: tuple[Any, ...], at: At) -> State:
        """What is shared in the steps, from the sums."""
        return at.shared

    def evaluated(self, xp: Any, p: Any, s: State) -> Any:
        """What is evaluated in the place of a parameter, if `averages`."""
        return p

    def frameworks(self) -> tuple[str, ...]:
        return ("jax", "torch")

    def jax(self, setting: Setting) -> Rule:
        if type(self).in_optax is not Standard.in_optax:  # a subclass has it from elsewhere
            return super().jax(setting)
        from optbench.optimizers.leafwise.jax import rule

        return rule(self, self.rate(setting), setting)

    def torch(self, setting: Setting) -> Rule:
        if type(self).in_torch is not Standard.in_torch:
            return super().torch(setting)
        from optbench.optimizers.leafwise.torch import rule

        return rule(self, setting)


class Clipping(Leafwise):
    """A method that first scales all gradients to a norm, where its `max_grad_norm` is one."""

    max_grad_norm: float | None

    def share(self, xp: Any) -> State:
        return {"clip": 1.0}

    def gather(self, xp: Any, g: Any, p: Any, s: State, at: At) -> tuple[Any, ...]:
        return () if self.max_grad_norm is None else (xp.total(g * g),)

    def agree(self, xp: Any, sums: tuple[Any, ...], at: At) -> State:
        if not sums:
            return at.shared
        return {"clip": xp.at_most(self.max_grad_norm / (sums[0] ** 0.5 + self.clip_eps()), 1)}

    def clip_eps(self) -> float:
        """Added to the norm."""
        return 1e-30
