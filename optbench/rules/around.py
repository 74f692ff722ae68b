"""A rule with a wrapper around it: what `optbench.optimizers.wrappers` declares, in either framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optbench.protocol import Objective, Rule, Step

Trees = dict[str, Any]


class Changed:
    """The objective that the inner rule sees: its gradients are the wrapper's, and the plain ones are kept."""

    def __init__(self, objective: Objective, change: Callable[[Trees, Trees], Trees]):
        self.objective, self.change = objective, change
        self.plain: Trees = {}

    def value(self, params: Trees) -> Any:
        return self.objective.value(params)

    def value_and_grad(self, params: Trees) -> tuple[Any, Trees]:
        loss, self.plain = self.objective.value_and_grad(params)
        return loss, self.change(self.plain, params)

    def value_grad_hvp(self, params: Trees, vector: Trees) -> tuple[Any, Trees, Trees]:
        loss, self.plain, hvp = self.objective.value_grad_hvp(params, vector)
        return loss, self.plain, hvp

    def value_and_graph(self, params: Trees) -> tuple[Any, Trees]:
        loss, grads = self.objective.value_and_graph(params)  # pyright: ignore[reportAttributeAccessIssue]
        self.plain = {name: grad.detach() for name, grad in grads.items()}
        return loss, grads


class Around:
    """The rule in JAX."""

    def __init__(self, xp: Any, wrapper: Any, inner: Any, rule: Rule, rate: Callable[[Any], Any], decay: Any):
        self.xp, self.wrapper, self.inner, self.rule = xp, wrapper, inner, rule
        self.rate, self.decay = rate, decay

    def init(self, params: Trees) -> Any:
        return {"inner": self.rule.init(params), "own": self.wrapper.start(self.xp, params)}

    def step(self, params: Trees, state: Any, objective: Objective, t: Any) -> Step:
        own, before = dict(state["own"]), dict(params)
        changed = self.changed(objective, own)
        done = self.rule.step(params, state["inner"], changed, t)
        moved = self.moved(before, done.params, changed.plain, own, t)
        return Step(moved, {"inner": done.state, "own": own}, done.loss, self.counted(done))

    def changed(self, objective: Objective, own: Trees) -> Changed:
        def again(params: Trees) -> Trees:
            return objective.value_and_grad(params)[1]

        def change(grads: Trees, params: Trees) -> Trees:
            return self.wrapper.gradients(self.xp, grads, params, own, self.inner, again)

        return Changed(objective, change)

    def moved(self, before: Trees, after: Trees, grads: Trees, own: Trees, t: Any) -> Trees:
        """The parameters after the step, cast as they were; decoupled weight decay is taken off before the step."""
        lr = self.rate(t)
        if self.wrapper.takes_decay:
            shrunk = {name: p * (1 - lr * self.decay) for name, p in before.items()}
            after = {name: shrunk[name] + (p - before[name]) for name, p in after.items()}
            before = shrunk
        moved = self.wrapper.moved(self.xp, before, after, grads, own, t, lr)
        return {name: self.xp.cast(p, before[name].dtype) for name, p in moved.items()}

    def counted(self, done: Step) -> Any:
        return done.counts._replace(gradients=done.counts.gradients + self.wrapper.gradients_more)

    def evaluated(self, params: Trees, state: Any) -> Trees:
        seen = self.rule.evaluated(params, state["inner"])
        return self.wrapper.evaluated(seen, state["own"])


class Held:
    """The state in PyTorch: the inner optimizer, and the wrapper's arrays."""

    def __init__(self, inner: Any, own: Trees):
        self.inner, self.own = inner, own

    def state_dict(self) -> dict[str, Any]:
        inner = self.inner.state_dict()
        return {"state": {"inner": inner["state"], "own": self.own}, "inner": inner}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.inner.load_state_dict(saved["inner"])
        self.own = saved["state"]["own"]


class TorchAround(Around):
    """The rule in PyTorch, where the inner one changes the parameters in place."""

    def init(self, params: Trees) -> Held:
        return Held(self.rule.init(params), self.wrapper.start(self.xp, plain(params)))

    def step(self, params: Trees, state: Held, objective: Objective, t: Any) -> Step:
        before = {name: p.detach().clone() for name, p in params.items()}
        changed = self.changed(objective, state.own)
        done = self.rule.step(params, state.inner, changed, t)
        grads = plain(changed.plain)
        moved = self.moved(before, plain(done.params), grads, state.own, t)
        for name, p in plain(done.params).items():
            p.copy_(moved[name])
        return Step(done.params, Held(done.state, state.own), done.loss, self.counted(done))

    def changed(self, objective: Objective, own: Trees) -> Changed:
        def again(params: Trees) -> Trees:
            return objective.value_and_grad({name: p.requires_grad_() for name, p in params.items()})[1]

        def change(grads: Trees, params: Trees) -> Trees:
            return self.wrapper.gradients(self.xp, plain(grads), plain(params), own, self.inner, again)

        return Changed(objective, change)

    def evaluated(self, params: Trees, state: Held) -> Trees:
        seen = self.rule.evaluated(params, state.inner)
        return self.wrapper.evaluated(plain(seen), state.own)


def plain(params: Trees) -> Trees:
    """The tensors without a graph, in the same memory."""
    return {name: p.detach() for name, p in params.items()}
