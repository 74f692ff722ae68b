"""Steps of matrices with equal singular values, or of one length in another norm; another method steps the rest."""

from __future__ import annotations

import functools
import math
from typing import Any

from optbench.fields import MOMENTUM, UserError, hyper
from optbench.optimizers.adapter import decay, declared, flag, size, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.protocol import Shapes
from optbench.ranges import is_off

QUINTIC = (3.4445, -4.775, 2.0315)
"""Coefficients of the iteration: they bring every singular value above about 0.002 near 1 in five steps."""


def orthogonal(xp: Any, x: Any, steps: int = 5, eps: float = 1e-7) -> Any:
    """Near U V' of x = U S V' by Newton and Schulz's iteration, over the last two axes, in the dtype of x."""
    a, b, c = QUINTIC
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (matrix_norm(x) + eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = xp.mixed(a, x, 1.0, xp.mixed(b, gram, c, gram, gram), x)
    return x.mT if tall else x


def matrix_norm(x: Any) -> Any:
    """The Frobenius norm over the last two axes, which stay with length 1."""
    return (x * x).sum((-2, -1))[..., None, None] ** 0.5


def as_matrix(x: Any) -> Any:
    """Kernels [out, in, ..] as matrices [out, all others]; three axes are a stack of matrices."""
    return x.reshape(x.shape[0], -1) if x.ndim > 3 else x


def moved(u: Any, size: Any, p: Any, decay: Any) -> Any:
    """size u - decay theta, in one pass where nothing decays."""
    return size * u if isinstance(decay, float) and not decay else size * u - decay * p


@functools.cache
def auxiliary(text: str) -> Leafwise:
    """The method that steps what another leaves to it: one that is written once, and steps each parameter alone."""
    from optbench import optimizers

    found = optimizers.parse(text)
    shared = isinstance(found, Leafwise) and type(found).agree is not Leafwise.agree
    if not isinstance(found, Leafwise) or isinstance(found, Hidden) or found.order == 2 or shared:
        raise UserError(f"aux={text!r} cannot step single parameters; adam, lion or adopt can.")
    return found


@declared
class Hidden(Leafwise, stacks=True):
    """A method of hidden matrices; embeddings, heads, vectors and scalars go by another, adam unless told."""

    learning_rate: float = step_size(0.02, 1e-4)
    b1: float = decay(0.95, "the momentum", MOMENTUM)
    aux: str = hyper("adam", "method of all others, as lion[b2=0.95]")
    aux_scale: float | None = hyper(None, "its learning rate relative to learning_rate", bounds="(0, inf)")
    aux_weight_decay: float = weight_decay(0.0, "decoupled weight decay of what adam steps")
    adam_b1: float = decay(0.9, "adam's mean of gradients")
    adam_b2: float = decay(0.95, "adam's mean of squares")
    adam_eps: float = small(1e-10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aux != "adam":
            auxiliary(self.aux)

    def ratio(self) -> float:
        """The auxiliary's learning rate where `aux_scale` is None."""
        return 1.0

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        if role == "matrix":
            return self.start_hidden(xp, p, role, normal)
        if self.aux != "adam":
            return auxiliary(self.aux).start(xp, p, role, normal)
        return {"m": xp.zeros(p), "v": xp.zeros(p)}

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        if at.role == "matrix":
            return self.step_hidden(xp, g, p, s, at)
        lr = at.lr * (self.ratio() if self.aux_scale is None else self.aux_scale)
        if self.aux != "adam":
            return auxiliary(self.aux).step(xp, g, p, s, at._replace(lr=lr))
        b1, b2, eps = self.adam_b1, self.adam_b2, self.eps_at(xp, at.t)
        s["m"], s["v"] = xp.ema(s["m"], g, b1), xp.ema(s["v"], g * g, b2)
        u = s["m"] / xp.unbias(b1, at.t) / ((s["v"] / xp.unbias(b2, at.t)) ** 0.5 + eps)
        return -lr * (u + self.aux_weight_decay * p)

    def eps_at(self, xp: Any, t: Any) -> Any:
        """What adam adds to the corrected root at step t."""
        return self.adam_eps

    def start_hidden(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        return {"m": xp.zeros(p)}

    def step_hidden(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        raise NotImplementedError

    def flops(self, shapes: Shapes) -> float:
        """About three products with the shorter axis in each of five iterations."""
        matrices = [(shape[0], math.prod(shape[1:])) for shape in shapes.values() if len(shape) > 1]
        return 10.0 * size(shapes) + sum(30.0 * min(shape) * math.prod(shape) for shape in matrices)

    def state_floats(self, shapes: Shapes) -> int | None:
        """None with another auxiliary, and where a task's roles decide."""
        return None


@declared(
    source="Jordan et al. 2024, github.com/KellerJordan/Muon 857d1ad; arXiv:2502.16982",
    memory="n for hidden matrices, 2n for the rest",
)
class Muon(Hidden):
    """Momentum whose hidden matrices are made orthogonal; everything else goes by adam.

        m <- b1 m + (1 - b1) g;  u = b1 m + (1 - b1) g        without `nesterov`,  u = m
        O = NewtonSchulz(u / (|u| + 1e-7))        `iterations` steps, nearly U V' of the decomposition U S V' of u
        theta <- theta - learning_rate (sqrt(max(1, out / in)) O + weight_decay theta)

    `scale='moonshot'`: m <- b1 m + g;  u = g + b1 m;  0.2 sqrt(max(out, in)) O, which moves entries about as far as
    adam does: its learning rates fit, and `aux_scale` is 1 where it is 0.015 otherwise; its adam adds eps to
    the uncorrected root. Kernels are matrices [out, all others] scaled by their last two axes, three axes a stack. The
    originals iterate in bfloat16, this in the dtype of the parameters. An `aux_scale` of 0.015 is far too little for
    small models: suite grand has 1.
    """

    nesterov: bool = flag(True, "look ahead")
    scale: str = hyper("jordan", "length of the step by the shape", choices=("jordan", "moonshot"))
    iterations: int = hyper(5, "steps of the iteration", bounds="[1, inf)")
    weight_decay: float = weight_decay(0.0, "decoupled weight decay of the hidden matrices")

    def ratio(self) -> float:
        return 0.015 if self.scale == "jordan" else 1.0

    def eps_at(self, xp: Any, t: Any) -> Any:
        return self.adam_eps if self.scale == "jordan" else self.adam_eps / xp.unbias(self.adam_b2, t) ** 0.5

    def step_hidden(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        if self.scale == "jordan":
            s["m"] = xp.ema(s["m"], g, self.b1)
            u = xp.ema(g, s["m"], 1 - self.b1) if self.nesterov else s["m"]
            scale = max(1, p.shape[-2] / p.shape[-1]) ** 0.5
        else:
            s["m"] = self.b1 * s["m"] + g
            u = g + self.b1 * s["m"] if self.nesterov else s["m"]
            scale = 0.2 * max(as_matrix(p).shape[-2:]) ** 0.5
        u = orthogonal(xp, as_matrix(u), self.iterations).reshape(p.shape)
        return moved(u, -at.lr * scale, p, at.lr * self.weight_decay)


@declared(
    source="arXiv:2510.05491; github.com/zichongli5/NorMuon d45c9a4",
    memory="n + one for each row for hidden matrices, 2n for the rest",
)
class NorMuon(Hidden, name="normuon"):
    """Muon whose rows are scaled by a running mean of their squares, with the length that Muon's step has.

    v <- b2 v + (1 - b2) mean(O^2)                            O as Muon's; the mean is over the last axis
    u = O / (sqrt(v) + 1e-10);  u <- |O| / (|u| + 1e-10) u    norms over the last two axes
    theta <- theta - learning_rate (sqrt(max(1, out / in)) u + weight_decay theta)
    """

    b2: float = decay(0.95, "the mean of squares of rows")
    nesterov: bool = flag(True, "look ahead")
    iterations: int = hyper(5, "steps of the iteration", bounds="[1, inf)")
    weight_decay: float = weight_decay(0.0, "decoupled weight decay of the hidden matrices")

    def ratio(self) -> float:
        return 0.015

    def start_hidden(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        return {"m": xp.zeros(p), "v": xp.zeros(p[..., :1])}

    def step_hidden(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        s["m"] = xp.ema(s["m"], g, self.b1)
        u = xp.ema(g, s["m"], 1 - self.b1) if self.nesterov else s["m"]
        u = orthogonal(xp, as_matrix(u), self.iterations).reshape(p.shape)
        s["v"] = xp.ema(s["v"], (u * u).mean(-1)[..., None], self.b2)
        even = u / (s["v"] ** 0.5 + 1e-10)
        even = even * (matrix_norm(u) / (matrix_norm(even) + 1e-10))
        scale = max(1, p.shape[-2] / p.shape[-1]) ** 0.5
        return moved(even, -at.lr * scale, p, at.lr * self.weight_decay)


@declared(
    source="arXiv:2504.05295; github.com/microsoft/dion 0a059a4",
    memory="n + rank times the shorter axis for hidden matrices, 2n for the rest",
)
class Dion(Hidden, draws=True, shapes=("rank_fraction",)):
    """Muon's step of low rank, by one power iteration from the last step's basis, with what it misses kept.

        M <- M + g;  P = orthogonal(M Q);  R = M' P;  M <- M - (1 - b1) P R'    the Q of a QR decomposition
        Q <- R / (|R| + eps)                                                    column by column
        theta <- theta - learning_rate (sqrt(out / in) P Q' + weight_decay theta)

    Kernels are matrices [out, all others]; of one that is wider than tall, the transpose is stepped. The first Q is
    drawn. The original's Adam decays by `aux_weight_decay` and has its learning rate from its own param group.
    """

    learning_rate: float = step_size(0.01, 1e-4)
    b1: float = decay(0.95, "what of the captured part stays in the momentum", MOMENTUM)
    rank_fraction: float = hyper(1.0, "rank relative to the shorter axis", bounds="(0, 1]")
    power_iterations: int = hyper(1, "power iterations a step", bounds="[1, inf)")
    eps: float = small(1e-8, "added to the norms of columns")
    weight_decay: float = weight_decay(0.01, "decoupled weight decay of the hidden matrices")

    def start_hidden(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        shape = (p.shape[0], math.prod(p.shape[1:]))
        rank = min(math.ceil(self.rank_fraction * min(shape)), *shape)
        return {"m": xp.zeros(p), "Q": normal(xp.full((min(shape), rank), 0, p))}

    def step_hidden(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        m = (s["m"] + g).reshape(p.shape[0], -1)
        out, others = m.shape
        m, R = m.T if out < others else m, s["Q"]
        P = xp.np.linalg.qr(m @ R)[0]
        for _ in range(self.power_iterations - 1):
            P = xp.np.linalg.qr(m @ (m.T @ P))[0]
        R = m.T @ P
        # A momentum of 0 has no basis: nothing moves, and the next step starts from this one's.
        alive = (m * m).sum() > 0
        P = P * alive
        m = m - (1 - self.b1) * P @ R.T
        Q = R / ((R * R).sum(0) ** 0.5 + self.eps)
        s["Q"] = xp.np.where(alive, Q, s["Q"])
        u = P @ Q.T
        if out < others:
            m, u = m.T, u.T
        s["m"] = m.reshape(p.shape)
        return -at.lr * ((out / others) ** 0.5 * u.reshape(p.shape) + self.weight_decay * p)


NORMS = ("auto", "bias", "spectral", "conv", "column", "row", "sign")


@declared(source="arXiv:2502.07529; github.com/LIONS-EPFL/scion f58a393", memory="n, none at b1 = 0")
class Scion(Leafwise, stacks=True):
    """Steps of a fixed length in a norm that fits the layer: the least linear function on its ball.

        m <- b1 m + (1 - b1) g;  theta <- (1 - learning_rate) theta - learning_rate scale lmo(m)

    lmo, with out and in the axes of a matrix: 'spectral' sqrt(out / in) U V' of m = U S V', by Newton and Schulz;
    'conv' the same of [out, in ..], over the number of the kernel's entries; 'bias' m / sqrt(mean m^2), over the
    first axis; 'column' m over the root mean square of each column, 'row' m over that of each row, times sqrt(in);
    'sign' sign(m) / in. 'auto': spectral or conv by the axes. What is no matrix goes by 'bias' always. `normalized`
    puts in, or takes out, the factor of the width. `unconstrained` does not shrink theta.

    Heads and embeddings go by `head_norm` and `embedding_norm`, scaled by `head_scale` beside `scale`: 'sign' and 60
    for the 50 and 3000 that the authors give language models. The package's own defaults are scale 1 and 'auto'.
    """

    learning_rate: float = step_size(2.5e-4, 2.5e-6)
    b1: float = decay(0.9, "the mean of gradients; 0 keeps none", MOMENTUM)
    scale: float = hyper(50.0, "length of the step in its norm", bounds="(0, inf)")
    head_scale: float = hyper(60.0, "that of heads and embeddings, relative to scale", bounds="(0, inf)")
    norm: str = hyper("auto", "the norm", choices=NORMS)
    head_norm: str = hyper("sign", "the norm of heads", choices=NORMS)
    embedding_norm: str = hyper("sign", "the norm of embeddings", choices=NORMS)
    normalized: bool | None = hyper(
        None, "put in a factor of the width; None: all but 'column'", choices=(None, True, False)
    )
    transpose: bool = flag(False, "'column' and 'row' of the transposed matrix")
    at_least_1: bool = flag(False, "'spectral': a factor of the shape of at least 1")
    iterations: int = hyper(5, "steps of Newton and Schulz", bounds="[1, inf)")
    unconstrained: bool = flag(False, "do not shrink the parameters")

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        return {} if is_off(self.b1) else {"m": xp.zeros(p)}

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        if not is_off(self.b1):
            g = s["m"] = xp.ema(s["m"], g, self.b1)
        own = {"head": self.head_norm, "embedding": self.embedding_norm}
        scale = self.scale * (self.head_scale if at.role in own else 1)
        u = scale * self.lmo(xp, g, own.get(at.role, self.norm))
        return -at.lr * (u if self.unconstrained else u + p)

    def lmo(self, xp: Any, m: Any, norm: str) -> Any:
        if m.ndim < 2 or norm == "bias":
            return m / (xp.mean(m * m, (0,) if m.ndim else ()) ** 0.5 + 1e-8)
        if norm in ("auto", "conv", "spectral"):
            norm = "spectral" if m.ndim == 2 else "conv"
        elif m.ndim > 2:
            return self.lmo(xp, m.reshape(m.shape[0], -1), norm).reshape(m.shape)
        wide = norm != "column" if self.normalized is None else self.normalized
        if norm == "conv":
            u = orthogonal(xp, m.reshape(m.shape[0], -1), self.iterations).reshape(m.shape)
            return u * (m.shape[0] / m.shape[1]) ** 0.5 / m.shape[2] ** (m.ndim - 2)
        if norm == "spectral":
            factor = (m.shape[0] / (m.shape[1] if wide else 1)) ** 0.5
            return (max(1, factor) if self.at_least_1 else factor) * orthogonal(xp, m, self.iterations)
        if norm == "sign":
            return xp.np.sign(m) / (m.shape[1] if wide else 1)
        m = m.mT if self.transpose else m
        if norm == "column":
            divisor = xp.mean(m * m, (0,)) ** 0.5 * (m.shape[1] if wide else 1)
        else:
            divisor = (m * m).sum(-1)[..., None] ** 0.5 * (m.shape[-1] ** 0.5 if wide else 1)
        u = m / (divisor + 1e-8)
        return u.mT if self.transpose else u

    def state_floats(self, shapes: Shapes) -> int:
        return (self.b1 > 0) * size(shapes)
