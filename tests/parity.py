"""The JAX and the torch version of one optimizer side by side, with the same noise, on five small problems.

Two questions, for any dataclass of the catalogue that offers both frameworks:

- `step_by_step`: from the same parameters and state at each step, does each step agree?
- `free_running`: left alone, do the two paths stay together as long as rounding lets them?
"""

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from optbench.engines.jax_program import JaxObjective
from optbench.engines.torch_eager import TorchObjective
from optbench.optimizers.leafwise.jax import LeafwiseState
from optbench.protocol import Setting, Step

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
ULP = 2.0**-52


class Problem(NamedTuple):
    """First parameters, what each step adds to the loss [steps, ...], and the loss, written once for both."""

    first: dict[str, np.ndarray]
    batches: np.ndarray
    loss: Callable[[Any, Any, Any], Any]
    """`loss(xp, params, batch)` with xp = jax.numpy or torch."""


def problem(name: str, steps: int) -> Problem:
    """One of the five problems. Each has gradient noise, so that no gradient fades into rounding."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    draw = rng.standard_normal
    if name == "quadratic":
        root = draw((4, 4))
        matrix = (root @ root.T / 4 + 0.1 * np.eye(4)).tolist()

        def loss(xp, params, batch):
            x = params["x"]
            return 0.5 * x @ (xp.asarray(matrix, dtype=x.dtype) @ x) - batch @ x

        return Problem({"x": draw(4)}, draw((steps, 4)), loss)
    if name == "rosenbrock":

        def loss(xp, params, batch):
            x, y = params["p"][0], params["p"][1]
            return (y - x * x) ** 2 + 0.01 * (1 - x) ** 2 + 0.01 * (batch @ params["p"])

        return Problem({"p": np.array([-0.5, 1.0])}, draw((steps, 2)), loss)
    if name == "mlp":
        first = {"W1": draw((3, 4)) / 2, "W2": draw((4, 2)) / 2, "b1": np.zeros(4)}

        def loss(xp, params, batch):
            out = xp.tanh(batch[:, :3] @ params["W1"] + params["b1"]) @ params["W2"]
            return 0.5 * ((out - batch[:, 3:]) ** 2).mean()

        return Problem(first, draw((steps, 6, 5)), loss)
    if name == "tensor":

        def loss(xp, params, batch):
            bent = xp.tanh(params["T"]) - batch
            return 0.5 * (bent * bent).sum() + 0.05 * (params["T"] ** 2).sum()

        return Problem({"T": draw((2, 3, 4))}, 0.5 * draw((steps, 2, 3, 4)), loss)
    if name == "scalar+vector":

        def loss(xp, params, batch):
            pulled = params["v"] * xp.tanh(params["s"]) - batch
            return 0.5 * (pulled * pulled).mean() + 0.05 * params["s"] ** 2

        return Problem({"s": draw(()) + 1, "v": draw(3)}, draw((steps, 3)), loss)
    raise ValueError(f"no problem {name!r}")


PROBLEMS = ("quadratic", "rosenbrock", "mlp", "tensor", "scalar+vector")

# How the torch state follows from the JAX state: entry of `optimizer.state[param]` to a tree over the leaves.
# An optimizer that is not listed gets the same parameters at each step, and its state follows from them.
BRIDGES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "novograd": lambda state: {"mu": state[0].mu, "nu": state[0].nu},
    "esgd": lambda state: {"exp_avg": state.exp_avg, "exp_avg_d": state.exp_avg_d},
    "expectigrad": lambda state: {
        key: part for key, part in state[0]._asdict().items() if key != "count" and part is not None
    },
    "ngc_adam": lambda state: {"g1": state.g1, "g2": state.g2},
    "ngc_nag": lambda state: {"phi": state.phi},
    "kron": lambda state: {"mu": state[0]["mu"], "Q": state[0]["Qs_preconditioners"]},
    **dict.fromkeys(
        ("xmat", "lra", "affine"), lambda state: {"mu": state[0].mu, "factors": state[0].factors}
    ),
}


def leaf_by_leaf(state: Any) -> dict[str, Any]:
    """The state of a method that is written once for both frameworks."""
    return {"leaves": state.leaves} if isinstance(state, LeafwiseState) else {}


WHOLE = ("lra", "xmat", "lra_dq", "dense_newton")
"""What preconditions all leaves as one vector: rounding of each entry is relative to the largest of all."""


@functools.cache
def table(name: str, steps: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(f"{kind}/{name}".encode()))
    return rng.standard_normal((steps, *shape)) if kind == "normal" else rng.random(steps)


class JaxNoise(NamedTuple):
    steps: int

    def normal(self, name, step, like):
        return jnp.asarray(table(name, self.steps, like.shape, "normal"), like.dtype)[step]

    def uniform(self, name, step, dtype):
        return jnp.asarray(table(name, self.steps, (), "uniform"), dtype)[step]


class TorchNoise(NamedTuple):
    steps: int

    def normal(self, name, step, like):
        return torch.from_numpy(table(name, self.steps, tuple(like.shape), "normal")[step : step + 1])[0].to(
            like
        )

    def uniform(self, name, step, dtype=torch.float32):
        return torch.tensor(table(name, self.steps, (), "uniform")[step], dtype=dtype)


class Sides(NamedTuple):
    """Both versions over one problem: `advance` is JAX's step, `walk` torch's; each gives a `Step`."""

    params: Any
    state: Any
    advance: Callable[[Any, Any, Any], Step]
    torch_params: dict[str, torch.Tensor]
    torch_state: Any
    walk: Callable[[Any, int], Step]


def sides(declared, name: str, dtype: str, steps: int) -> Sides:
    """Build both; the learning rate falls linearly to a tenth, so that the schedule is seen too."""
    torch.set_num_threads(1)
    given = problem(name, steps)
    factors = np.linspace(1.0, 0.1, steps)
    batches = given.batches.astype(dtype)
    rule = declared.jax(Setting(lambda t: jnp.asarray(factors, dtype)[t], JaxNoise(steps), steps))
    params = {leaf: jnp.asarray(value, dtype) for leaf, value in given.first.items()}

    def advance(params, state, t):
        batch = jnp.asarray(batches)[t]
        return rule.step(params, state, JaxObjective(lambda p: given.loss(jnp, p, batch)), t)

    other = declared.torch(Setting(lambda t: float(factors[t]), TorchNoise(steps), steps))
    # Leaves in JAX's order, so that an optimizer that draws or scales over all of them sees the same.
    leaves = {
        leaf: torch.tensor(given.first[leaf].astype(dtype), requires_grad=True)
        for leaf in sorted(given.first)
    }

    def walk(state, t):
        batch = torch.from_numpy(batches[t])
        return other.step(leaves, state, TorchObjective(lambda p: given.loss(torch, p, batch)), t)

    return Sides(params, rule.init(params), advance, leaves, other.init(leaves), walk)


def numbers(params: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {leaf: value.detach().numpy().copy() for leaf, value in params.items()}


def step_by_step(declared, name: str, dtype: str, steps: int, bridge=None) -> None:
    """Fail unless every step agrees when both start it from the same parameters and state.

    Parameters agree relative to their largest entry before or after the step, state relative to the largest entry
    it has had so far: what passes through 0 is the difference of two terms, and rounding is relative to those.
    """
    largest: dict[str, float] = {}
    bridge = bridge or BRIDGES.get(declared.name, leaf_by_leaf)
    with jax.enable_x64(dtype == "float64"):
        both = sides(declared, name, dtype, steps)
        params, state, torch_state = both.params, both.state, both.torch_state
        advance = jax.jit(both.advance)
        for t in range(steps):
            copy_over(params, bridge(state), both.torch_params, torch_state)
            before = params
            one, other = advance(params, state, t), both.walk(torch_state, t)
            params, state, torch_state = one.params, one.state, other.state
            where = f"{declared.name} on {name} in {dtype}, step {t}"
            found = {
                leaf: apart(got, params[leaf], before[leaf])
                for leaf, got in numbers(both.torch_params).items()
            }
            for leaf, (gap, size) in found.items():
                size = max(each.size for each in found.values()) if declared.name in WHOLE else size
                assert gap <= TOLERANCE[dtype] * size, f"{where}: {leaf} is {gap / size:.1e} apart"
            asked, told = (int(x.counts.hvps) for x in (one, other))
            assert asked == told, f"{where}: {asked} products in JAX, {told} in torch"
            for what, got, want in pairs(bridge(state), both.torch_params, torch_state):
                seen = max(float(np.max(np.abs(want))), largest.get(what, 0.0))
                largest[what] = seen
                error = float(np.max(np.abs(got.numpy() - want))) / max(seen, 1e-300)
                assert error <= TOLERANCE[dtype], f"{where}: {what} is {error:.1e} apart"


class Apart(NamedTuple):
    gap: float
    size: float


def apart(got: np.ndarray, after: Any, before: Any) -> Apart:
    after = np.asarray(after, np.float64)
    assert np.isfinite(got).all()
    size = max(float(np.max(np.abs(after))), float(np.max(np.abs(before))), 1e-300)
    return Apart(float(np.max(np.abs(got - after))), size)


def pairs(entries, torch_params, optimizer) -> Iterator[tuple[str, torch.Tensor, np.ndarray]]:
    """Each array of torch's state beside JAX's; an entry may be a list of arrays. Factors are of units."""
    for key, tree in entries.items():
        if key == "factors":
            held = [state[key] for state in optimizer.state.values() if key in state]
            for i, (got, want) in enumerate(zip(held, tree, strict=True)):
                yield from ((f"{name}.{i}", got[name].detach(), np.asarray(want[name])) for name in got)
            continue
        if key == "leaves":
            for (leaf, param), each in zip(torch_params.items(), tree, strict=True):
                held = optimizer.state[param]
                yield from ((f"{name}.{leaf}", held[name].detach(), np.asarray(each[name])) for name in each)
            continue
        for leaf, param in torch_params.items():
            got, want = optimizer.state[param][key], tree[leaf]
            if not isinstance(got, list | tuple):
                got, want = [got], [want]
            for i, (one, other) in enumerate(zip(got, want, strict=True)):
                yield f"{key}.{leaf}.{i}", one.detach(), np.asarray(other)


def copy_over(params, entries, torch_params, optimizer) -> None:
    """Write JAX's parameters and state into torch's; a state not made yet is left to its first step."""
    with torch.no_grad():
        for leaf, param in torch_params.items():
            param.copy_(torch.tensor(np.asarray(params[leaf])))
        if optimizer.state:
            for _, got, want in pairs(entries, torch_params, optimizer):
                got.copy_(torch.tensor(want))


def free_running(declared, name: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The distance of the two paths after each step, and how far a perturbation of rounding size gets.

    In float64. The perturbed path has every parameter multiplied by 1 +- 2^-52 after every step; the growth
    is the largest distance it has had so far from the unperturbed path, over three draws of the signs.
    """
    with jax.enable_x64(True):
        both = sides(declared, name, "float64", steps)
        sign = {
            leaf: np.sign(table(leaf, steps, value.shape, "normal")) for leaf, value in both.params.items()
        }

        @jax.jit
        def path(shift, size):
            def body(carry, t):
                done = both.advance(*carry, t)
                at = (t + shift) % steps
                params = {
                    leaf: p * (1 + size * jnp.asarray(sign[leaf])[at]) for leaf, p in done.params.items()
                }
                return (params, done.state), params

            return jax.lax.scan(body, (both.params, both.state), jnp.arange(steps))[1]

        straight = {leaf: np.asarray(value) for leaf, value in path(0, 0.0).items()}
        bent = [path(shift, ULP) for shift in (0, steps // 3, steps // 2)]
        growth = np.max([distance(straight, other) for other in bent], axis=0)
        walked, state = [], both.torch_state
        for t in range(steps):
            state = both.walk(state, t).state
            walked.append(numbers(both.torch_params))
        torch_path = {leaf: np.stack([params[leaf] for params in walked]) for leaf in straight}
        return distance(straight, torch_path), np.maximum.accumulate(growth)


def distance(one, other) -> np.ndarray:
    scale = max(float(np.max(np.abs(value))) for value in one.values())
    gaps = [
        np.abs(one[leaf] - np.asarray(other[leaf])).reshape(len(one[leaf]), -1).max(axis=1) for leaf in one
    ]
    return np.max(gaps, axis=0) / scale
