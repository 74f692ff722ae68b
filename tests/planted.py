"""Optimizers with one fault each: what every check of `optbench vet --full` must find."""

import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import torch


class Sound(torch.optim.Optimizer):
    """Descent with momentum, without a fault; those below break one thing."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr, "foreach": False, "maximize": False})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in self.stepped(group):
                if p.grad is not None:
                    self.one(p, p.grad, group)
        return loss

    def stepped(self, group):
        return group["params"]

    def kept(self, p):
        return self.state[p]

    def one(self, p, g, group):
        g = -g if group["maximize"] else g
        state = self.kept(p)
        state["m"] = 0.9 * state.get("m", torch.zeros_like(p)) + g
        p.sub_(state["m"] * group["lr"])


class Hidden(Sound):
    """Its momentum is beside its state."""

    def kept(self, p):
        hidden = self.__dict__.setdefault("hidden", {})
        return hidden.setdefault(id(p), {})

    def __setstate__(self, state):
        super().__setstate__({name: each for name, each in state.items() if name != "hidden"})


class Strange(Sound):
    def one(self, p, g, group):
        super().one(p, g, group)
        self.state[p]["path"] = Path("x")


class First(Sound):
    """It steps the parameters that it was first given."""

    def stepped(self, group):
        if "mine" not in self.__dict__:
            self.mine = {id(p) for p in group["params"]}
        return [p for p in group["params"] if id(p) in self.mine]


class OneRate(Sound):
    def one(self, p, g, group):
        super().one(p, g, {**group, "lr": max(each["lr"] for each in self.param_groups)})


class Down(Sound):
    def one(self, p, g, group):
        super().one(p, g, {**group, "maximize": False})


class Mute(Sound):
    def step(self, closure=None):
        super().step(closure)


class Fixed(Sound):
    def one(self, p, g, group):
        super().one(p, g, {**group, "lr": self.defaults["lr"]})


class Spending(Sound):
    def one(self, p, g, group):
        super().one(p, g, group)
        group["lr"] *= 0.99


class Scaling(Sound):
    """It promises to take the scale off, and does not."""

    _step_supports_amp_scaling = True


class Twofold(Sound):
    def one(self, p, g, group):
        super().one(p, 2 * g if group["foreach"] else g, group)


class Compiled(Sound):
    def one(self, p, g, group):
        super().one(p, 2 * g if torch.compiler.is_compiling() else g, group)


class Sparse(Sound):
    def one(self, p, g, group):
        super().one(p, 2 * g.to_dense() if g.is_sparse else g, group)


class Rows(Sound):
    def one(self, p, g, group):
        super().one(p, g.reshape(p.shape[0], -1).reshape(p.shape), group)


class Vectors(Sound):
    def one(self, p, g, group):
        if p.ndim < 2:
            super().one(p, g, group)


class Decaying(Sound):
    def step(self, closure=None):
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.mul_(0.99)
        return super().step(closure)


class Powers(Sound):
    def one(self, p, g, group):
        super().one(p, g**8, group)


class Frozen(Sound):
    def one(self, p, g, group):
        self.dead = getattr(self, "dead", False) or bool(torch.isnan(g).any())
        if not self.dead:
            super().one(p, g, group)


class Tiny(Sound):
    def one(self, p, g, group):
        super().one(p, g / (g.abs() + 1e-8).to(p.dtype), group)


class Single(Sound):
    def one(self, p, g, group):
        super().one(p, g, group)
        p.data = p.data.to(torch.float32)


class Squares(Sound):
    def one(self, p, g, group):
        p.sub_(g / ((g * g) ** 0.5 + 1) * group["lr"])


class Shards(Sound):
    """Each process has its own norm."""

    def one(self, p, g, group):
        local = g.to_local() if hasattr(g, "to_local") else g
        p.sub_(g * (group["lr"] / (1 + float(local.norm()))))


class Crash(Sound):
    def one(self, p, g, group):
        os._exit(3)


class Hang(Sound):
    def one(self, p, g, group):
        time.sleep(1000)


TORCH = {
    "use.state_dict": Hidden, "use.weights_only": Strange, "use.bfloat16_state": Hidden, "use.deepcopy": Hidden,
    "use.pickle": Hidden, "use.late_group": First, "use.group_rates": OneRate, "use.maximize": Down,
    "use.closure": Mute, "use.scheduler": Fixed, "use.tensor_rate": Spending, "use.grad_scaler": Scaling,
    "use.foreach": Twofold, "use.compile": Compiled, "use.sparse": Sparse, "trees.shapes": Rows, "trees.tied": Vectors,
    "trees.silent": Decaying, "trees.spike": Powers, "trees.nan": Frozen, "trees.float16": Tiny,
    "trees.bfloat16": Single,
    "trees.float64": Single, "trees.complex": Squares, "sharding.fsdp_2": Shards, "sharding.fsdp_4": Shards,
    "checkpoints.dcp_2": Hidden, "checkpoints.dcp_1": Hidden,
}  # fmt: skip


def stateless(change):
    def make(learning_rate=0.1):
        def update(updates, state, params=None):
            return jax.tree.map(lambda u: -learning_rate * change(u), updates), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    return make


def sound(learning_rate=0.1):
    """Without a fault."""
    return optax.sgd(learning_rate, 0.9)


TRACES = []


def counting(learning_rate=0.1):
    """It remembers in Python how often it was traced."""

    def update(updates, state, params=None):
        TRACES.append(1)
        return jax.tree.map(lambda u: -learning_rate * (1 + len(TRACES)) * u, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def by_name(learning_rate=0.1):
    def update(updates, state, params=None):
        return {name: -learning_rate * u for name, u in sorted(updates.items())}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def closed(learning_rate=0.1):
    def update(updates, state, params=None, *, value=None):
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def widening(learning_rate=0.1):
    def update(updates, count, params=None):
        return jax.tree.map(lambda u: -learning_rate * u, updates), count + 0.5

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def freezing(learning_rate=0.1):
    def update(updates, dead, params=None):
        ill = [jnp.isnan(u).any() for u in jax.tree.leaves(updates)]
        dead = dead | jnp.stack(ill).any()
        return jax.tree.map(lambda u: jnp.where(dead, 0, -learning_rate * u), updates), dead

    return optax.GradientTransformation(lambda params: jnp.zeros((), bool), update)


def counted_devices(learning_rate=0.1):
    """Remembers the devices of its start outside of its state."""
    seen = []

    def init(params):
        seen.append(len(jax.tree.leaves(params)[-1].devices()))
        return optax.EmptyState()

    def update(updates, state, params=None):
        return jax.tree.map(lambda u: -learning_rate / seen[0] * u, updates), state

    return optax.GradientTransformation(init, update)


def apart(params, state, grads, step, learning_rate=0.1):
    """Another step in PyTorch."""
    factor = 1.001 if isinstance(next(iter(grads.values())), torch.Tensor) else 1.0
    return {name: params[name] - learning_rate * factor * grads[name] for name in params}, {}


divided = stateless(lambda u: u / jnp.abs(u))
rows = stateless(lambda u: u.reshape(u.shape[0], -1).reshape(u.shape))
powers = stateless(lambda u: u**8)
squares = stateless(lambda u: u / ((u * u) ** 0.5 + 1))

JAX = {
    "use.multi_steps": counting, "use.masked": by_name, "use.multi_transform": by_name,
    "use.inject_hyperparams": counting, "use.chain": counting, "use.apply_if_finite": counting, "use.value": closed,
    "use.vmap": counting, "use.carry": widening, "use.nested": by_name, "trees.shapes": rows, "trees.silent": divided,
    "trees.spike": powers, "trees.nan": freezing, "trees.float16": divided, "trees.bfloat16": divided,
    "trees.float64": divided, "trees.complex": squares, "parity.twins": apart, "sharding.mesh_8": counted_devices,
    "sharding.mesh_4x2": counted_devices, "checkpoints.orbax_2": counted_devices,
    "checkpoints.orbax_1": counted_devices,
}  # fmt: skip
UNPLANTED = {"use.flax", "use.equinox"}
"""They are `use.nested` on another tree, where their packages are installed."""
