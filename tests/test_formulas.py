"""The equations of the pages in NumPy, float64, against both frameworks: a witness that shares no code with either.

A formula is written from the page of its method alone. `o` are the options, `s` is a state that starts empty.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from optbench import optimizers
from optbench.protocol import Setting
from optbench.rules.optax import KeyNoise
from optbench.rules.torch import SeedNoise

STEPS = 12
SHAPES = {"a": (3, 4), "b": (5,), "c": (2, 3, 2), "d": ()}
MOVED = {
    "b1": 0.7, "b2": 0.8, "b3": 0.9, "eps": 1e-3, "eps_root": 1e-3, "momentum": 0.6, "beta": 0.5, "weight_decay": 0.1,
    "alpha": 0.5, "gamma": 0.1, "trust": 0.1, "first": 1e-2, "decay": 0.5, "clipping": 1.2, "initial": 0.3,
}  # fmt: skip
"""The options of a second row."""


def mean(s, name, x, decay, first=0.0):
    """name <- decay name + (1 - decay) x"""
    s[name] = decay * s.get(name, first) + (1 - decay) * x
    return s[name]


def total(s, name, x, decay=1.0, first=0.0):
    """name <- decay name + x"""
    s[name] = decay * s.get(name, first) + x
    return s[name]


def sgd(p, s, g, t, o):
    m = total(s, "m", g, o.momentum)
    return p - o.learning_rate * (g + o.momentum * m if o.nesterov else m)


def sign_sgd(p, s, g, t, o):
    return p - o.learning_rate * np.sign(g)


def signum(p, s, g, t, o):
    return p - o.learning_rate * np.sign(mean(s, "m", g, o.b1))


def lion(p, s, g, t, o):
    u = np.sign(o.b1 * s.get("m", 0) + (1 - o.b1) * g)
    mean(s, "m", g, o.b2)
    return p - o.learning_rate * (u + o.weight_decay * p)


def optimistic_sgd(p, s, g, t, o):
    before, s["g"] = s.get("g", g), g
    return p - o.learning_rate * ((o.alpha + o.beta) * g - o.beta * before)


def rprop(p, s, g, t, o):
    sign, step = g * s.get("g", 0), s.get("step", np.full(g.shape, o.learning_rate))
    factor = np.where(sign > 0, o.eta_plus, np.where(sign < 0, o.eta_minus, 1))
    s["step"] = np.clip(factor * step, o.min_step, o.max_step)
    s["g"] = np.where(sign < 0, 0, g)
    return p - s["step"] * np.sign(s["g"])


def sm3(p, s, g, t, o):
    axes = range(g.ndim)
    a = g * g
    if t > 1:
        a = a + (np.minimum.reduce([np.broadcast_to(s[i], g.shape) for i in axes]) if g.ndim else s["whole"])
    for i in axes:
        s[i] = a.max(tuple(j for j in axes if j != i), keepdims=True)
    s["whole"] = a
    return p - o.learning_rate * mean(s, "m", g / np.sqrt(a), o.b1)


def adagrad(p, s, g, t, o):
    return p - o.learning_rate * g / np.sqrt(total(s, "v", g * g, first=o.initial))


def rmsprop(p, s, g, t, o):
    v = mean(s, "v", g * g, o.b2)
    if o.centered:
        v = v - mean(s, "mean", g, o.b2) ** 2
    return p - o.learning_rate * total(s, "m", g / (np.sqrt(v) + o.eps), o.momentum)


def adadelta(p, s, g, t, o):
    v = mean(s, "v", g * g, o.b2)
    u = np.sqrt(s.get("x", 0) + o.eps) / np.sqrt(v + o.eps) * g
    mean(s, "x", u * u, o.b2)
    return p - o.learning_rate * u


def adafactor(p, s, g, t, o):
    d = 1 - t**-o.decay
    if g.ndim < 2:
        u = g / np.sqrt(mean(s, "v", g * g, d))
    else:
        row = mean(s, "row", (g * g).mean(-1, keepdims=True), d)
        col = mean(s, "col", (g * g).mean(-2, keepdims=True), d)
        u = g / np.sqrt(row * col / row.mean(-2, keepdims=True))
    u = u / max(1, np.sqrt((u * u).mean()) / o.clipping)
    return p - min(o.learning_rate, t**-0.5) * max(1e-3, np.sqrt((p * p).mean())) * u


def adam(p, s, g, t, o):
    m, v = mean(s, "m", g, o.b1), mean(s, "v", g * g, o.b2)
    u = m / (1 - o.b1**t) / (np.sqrt(v / (1 - o.b2**t)) + o.eps)
    return p - o.learning_rate * (u + getattr(o, "weight_decay", 0) * p)


def amsgrad(p, s, g, t, o):
    m, v = mean(s, "m", g, o.b1), mean(s, "v", g * g, o.b2)
    s["w"] = np.maximum(s.get("w", 0), v)
    return p - o.learning_rate * m / (1 - o.b1**t) / (np.sqrt(s["w"] / (1 - o.b2**t)) + o.eps)


def adamax(p, s, g, t, o):
    m, s["u"] = mean(s, "m", g, o.b1), np.maximum(o.b2 * s.get("u", 0), abs(g) + o.eps)
    return p - o.learning_rate * m / (1 - o.b1**t) / s["u"]


def ahead(s, g, t, o):
    """NAdam's step without decay."""
    m, v = mean(s, "m", g, o.b1), mean(s, "v", g * g, o.b2)
    n = o.b1 * m / (1 - o.b1 ** (t + 1)) + (1 - o.b1) * g / (1 - o.b1**t)
    return n / (np.sqrt(v / (1 - o.b2**t)) + o.eps)


def nadam(p, s, g, t, o):
    return p - o.learning_rate * (ahead(s, g, t, o) + o.weight_decay * p)


def optimistic_adam(p, s, g, t, o):
    u = ahead(s, g, t, o)
    before, s["u"] = s.get("u", u), u
    return p - o.learning_rate * ((o.alpha + o.beta) * u - o.beta * before)


def radam(p, s, g, t, o):
    m, v = mean(s, "m", g, o.b1), mean(s, "v", g * g, o.b2)
    last = 2 / (1 - o.b2) - 1
    now = last - 2 * t * o.b2**t / (1 - o.b2**t)
    u = m / (1 - o.b1**t)
    if now > 5:
        r = np.sqrt((now - 4) * (now - 2) * last / ((last - 4) * (last - 2) * now))
        u = r * u * np.sqrt(1 - o.b2**t) / (np.sqrt(v) + o.eps)
    return p - o.learning_rate * u


def adabelief(p, s, g, t, o):
    m = mean(s, "m", g, o.b1)
    s["v"] = mean(s, "v", (g - m) ** 2, o.b2) + o.eps_root
    return p - o.learning_rate * m / (1 - o.b1**t) / (np.sqrt(s["v"] / (1 - o.b2**t)) + o.eps)


def acprop(p, s, g, t, o):
    divisor = (np.sqrt(s["v"] / (1 - o.b2 ** (t - 1))) if t > 1 else 1) + o.eps
    s["v"] = mean(s, "v", (g - s.get("m", 0)) ** 2, o.b2) + o.eps_root
    mean(s, "m", g, o.b1)
    return p - o.learning_rate * (g / divisor + o.weight_decay * p)


def yogi(p, s, g, t, o):
    g = g + o.weight_decay * p
    m, v = mean(s, "m", g, o.b1, o.first), s.get("v", o.first)
    s["v"] = v - (1 - o.b2) * np.sign(v - g * g) * g * g
    return p - o.learning_rate * m / (1 - o.b1**t) / (np.sqrt(s["v"] / (1 - o.b2**t)) + o.eps)


def adan(p, s, g, t, o):
    d, s["g"] = g - s.get("g", g), g
    m, v = mean(s, "m", g, o.b1), mean(s, "v", d, o.b2)
    n = mean(s, "n", (g + o.b2 * d) ** 2, o.b3)
    u = (m / (1 - o.b1**t) + o.b2 * v / (1 - o.b2**t)) / (np.sqrt(n / (1 - o.b3**t)) + o.eps)
    return (p - o.learning_rate * u) / (1 + o.learning_rate * o.weight_decay)


def adopt(p, s, g, t, o):
    if t == 1:
        mean(s, "v", g * g, 0)
        return p
    bound = (t - 1) ** o.clip_power
    m = mean(s, "m", np.clip(g / np.maximum(np.sqrt(s["v"]), o.eps), -bound, bound), o.b1)
    mean(s, "v", g * g, o.b2)
    return p - o.learning_rate * (m + o.weight_decay * p)


def ademamix(p, s, g, t, o):
    m, slow, v = mean(s, "m", g, o.b1), mean(s, "s", g, o.b3), mean(s, "v", g * g, o.b2)
    u = (m / (1 - o.b1**t) + o.alpha * slow) / (np.sqrt(v / (1 - o.b2**t)) + o.eps)
    return p - o.learning_rate * (u + o.weight_decay * p)


def simplified_ademamix(p, s, g, t, o):
    m, v = total(s, "m", g, o.b1), mean(s, "v", g * g, o.b2)
    u = (m + o.alpha * g) / (np.sqrt(v / (1 - o.b2**t)) + o.eps)
    return p - o.learning_rate * (u + o.weight_decay * p)


def lars(p, s, g, t, o):
    size, own = np.linalg.norm(p), np.linalg.norm(g)
    u = o.trust * size / (own + o.weight_decay * size + o.eps) * (g + o.weight_decay * p)
    return p - o.learning_rate * total(s, "m", u if t == 1 else (1 - o.dampening) * u, o.momentum)


def lamb(p, s, g, t, o):
    m, v = mean(s, "m", g, o.b1), mean(s, "v", g * g, o.b2)
    u = m / (1 - o.b1**t) / (np.sqrt(v / (1 - o.b2**t)) + o.eps) + o.weight_decay * p
    return p - o.learning_rate * np.linalg.norm(p) / np.linalg.norm(u) * u


def adam_mini(p, s, g, t, o):
    squares = (g * g).mean(1, keepdims=True) if g.ndim == 2 else (g * g).mean()
    m, v = mean(s, "m", g, o.b1), mean(s, "v", squares, o.b2)
    decay = 0 if g.ndim == 1 else o.weight_decay
    return p - o.learning_rate * (m / (1 - o.b1**t) / (np.sqrt(v / (1 - o.b2**t)) + o.eps) + decay * p)


def fromage(p, s, g, t, o):
    u = max(np.linalg.norm(p), o.min_norm) / max(np.linalg.norm(g), o.min_norm) * g
    return (p - o.learning_rate * u) / np.sqrt(1 + o.learning_rate**2)


def schedule_free(p, s, g, t, o):
    z, x = s.get("z", p), s.get("x", p)
    u = g
    if hasattr(o, "b2"):
        u = g / (np.sqrt(mean(s, "v", g * g, o.b2) / (1 - o.b2**t)) + o.eps)
    s["z"] = z - o.learning_rate * (u + o.weight_decay * p)
    weight = t**o.r * o.learning_rate**o.weight_lr_power
    c = weight / total(s, "w", weight)
    s["x"] = (1 - c) * x + c * s["z"]
    return o.b1 * s["x"] + (1 - o.b1) * s["z"]


def madgrad(p, s, g, t, o):
    step, first = (o.learning_rate + o.eps) * np.sqrt(t), s.setdefault("first", p)
    z = first - total(s, "s", step * g) / (np.cbrt(total(s, "v", step * g * g)) + o.eps)
    return o.momentum * p + (1 - o.momentum) * z


def novograd(p, s, g, t, o):
    size = (g * g).sum()
    s["nu"] = size if t == 1 else o.b2 * s["nu"] + (1 - o.b2) * size
    u = g / (np.sqrt(s["nu"] + o.eps_root) + o.eps) + o.weight_decay * p
    return p - o.learning_rate * total(s, "m", u, o.b1)


def expectigrad(p, s, g, t, o):
    v, n = total(s, "s", g * g), total(s, "n", np.sign(g * g))
    return p - o.learning_rate / (1 - o.beta**t) * mean(s, "m", g / (o.eps + np.sqrt(v / n)), o.beta)


def ngc_nag(p, s, g, t, o):
    phi = p - o.learning_rate * g
    before, s["phi"] = s.get("phi", phi), phi
    return phi + o.momentum * (phi - before)


LEAVES = {
    **dict.fromkeys(("sgd", "momentum", "nesterov"), sgd),
    **dict.fromkeys(("adam", "adamw", "ngc_adam"), adam),
    **dict.fromkeys(("schedule_free_sgd", "schedule_free_adamw"), schedule_free),
    "ngc_sgd": lambda p, s, g, t, o: p - o.learning_rate * g,
    **{
        each.__name__: each
        for each in (
            sign_sgd, signum, lion, optimistic_sgd, rprop, sm3, adagrad, rmsprop, adadelta, adafactor, amsgrad, adamax,
            nadam, optimistic_adam, radam, adabelief, acprop, yogi, adan, adopt, ademamix, simplified_ademamix, lars,
            lamb, adam_mini, fromage, madgrad, novograd, expectigrad, ngc_nag,
        )
    },
}  # fmt: skip
"""theta after a step, of one parameter."""


def dot(one, other):
    return sum((one[k] * other[k]).sum() for k in one)


def polyak_sgd(ps, s, gs, t, o, loss):
    step = min(o.learning_rate, (loss - o.f_min) / (dot(gs, gs) + o.eps))
    return {k: p - step * gs[k] for k, p in ps.items()}


def distance(ps, s):
    first = s.setdefault("first", ps)
    gap = {k: p - first[k] for k, p in ps.items()}
    return np.sqrt(dot(gap, gap)), np.sqrt(dot(first, first))


def dog(ps, s, gs, t, o, loss):
    come, size = distance(ps, s)
    s["r"] = max(s.get("r", 0), come, o.first * (1 + size))
    step = o.learning_rate * s["r"] / np.sqrt(total(s, "squares", dot(gs, gs)) + o.eps)
    return {k: p - step * gs[k] for k, p in ps.items()}


def dowg(ps, s, gs, t, o, loss):
    s["r2"] = max(s.get("r2", 0), distance(ps, s)[0] ** 2, o.eps)
    step = o.learning_rate * s["r2"] / (np.sqrt(total(s, "w", s["r2"] * dot(gs, gs))) + o.eps)
    return {k: p - step * gs[k] for k, p in ps.items()}


def prodigy(ps, s, gs, t, o, loss):
    first, d, b3 = s.setdefault("first", ps), s.get("d", o.first), o.b2**0.5 if o.b3 is None else o.b3
    r = o.learning_rate * d
    inner = dot(gs, {k: first[k] - p for k, p in ps.items()})
    n = total(s, "N", d / o.first * r * inner, b3)
    sums = [abs(total(s, f"S{k}", d / o.first * r * g, b3)).sum() for k, g in gs.items()]
    m = {k: mean(s, f"m{k}", d * g, o.b1) for k, g in gs.items()}
    v = {k: mean(s, f"v{k}", (d * g) ** 2, o.b2) for k, g in gs.items()}
    s["d"] = max(d, o.d_coef * n / sum(sums))
    return {k: p - r * (m[k] / (np.sqrt(v[k]) + s["d"] * o.eps) + o.weight_decay * p) for k, p in ps.items()}


TREES = {each.__name__: each for each in (polyak_sgd, dog, dowg, prodigy)}
"""All parameters after a step, and the loss before it."""


def numbers(t, name):
    return np.random.default_rng([t, ord(name)]).normal(size=SHAPES[name])


def given(t):
    """The gradients and the loss of step t, from 1."""
    return {k: np.asarray(numbers(t, k)) for k in SHAPES}, 3 + 1 / t


class Given:
    def __init__(self, array, t):
        grads, self.loss = given(t)
        self.grads = {k: array(g) for k, g in grads.items()}

    def value_and_grad(self, params):
        return self.loss, self.grads

    def value(self, params):
        return self.loss


def written(o):
    ps, s = {k: np.asarray(numbers(0, k)) for k in SHAPES}, {}
    for t in range(1, STEPS + 1):
        gs, loss = given(t)
        if o.name in TREES:
            ps = TREES[o.name](ps, s, gs, t, o, loss)
        else:
            ps = {k: LEAVES[o.name](p, s.setdefault(k, {}), gs[k], t, o) for k, p in ps.items()}
        yield ps


def stepped(rule, array):
    params = {k: array(np.asarray(numbers(0, k))) for k in SHAPES}
    state = rule.init(params)
    for t in range(STEPS):
        done = rule.step(params, state, Given(array, t + 1), t)
        params, state = done.params, done.state
        yield {k: np.asarray(p).copy() for k, p in params.items()}


def in_jax(o):
    with jax.enable_x64(True):
        yield from stepped(o.jax(Setting(lambda t: 1.0, KeyNoise.seeded(0), STEPS)), jnp.asarray)


def in_torch(o):
    yield from stepped(o.torch(Setting(lambda t: 1.0, SeedNoise(0), STEPS)), torch.tensor)


WAYS = {"jax": in_jax, "torch": in_torch}
CASES = [  # JAX compiles each operation, for a second or two a method
    pytest.param(name, framework, marks=[pytest.mark.slow] * (framework == "jax"))
    for name in sorted([*LEAVES, *TREES])
    for framework in optimizers.parse(name).frameworks()
]


@pytest.mark.parametrize(("name", "framework"), CASES)
def test_it_is_what_its_page_says(name, framework):
    plain = optimizers.parse(name)
    moved = plain.replace(**{key: value for key, value in MOVED.items() if hasattr(plain, key)})
    for o in (plain, moved):
        steps = zip(written(o), WAYS[framework](o), strict=True)
        for t, (page, code) in enumerate(steps, 1):
            for k, p in page.items():
                gap = np.abs(code[k] - p).max() / np.abs(p).max()
                assert gap <= 1e-12, f"{o.label()} in {framework}: {k} is {gap:.1e} off after step {t}"
