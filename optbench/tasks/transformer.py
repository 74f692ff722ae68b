"""A decoder-only transformer that predicts the next character or token (arXiv:1706.03762, in the form of GPT-2).

    h = E[tokens] + P
    h = h + W_o attention(norm(h)),  h = h + W_2 gelu(W_1 norm(h))     in each layer (pre-norm)
    logits = norm(h) E^T,  loss = cross entropy in nats per token

Causal attention in several heads; layer normalisation with a gain; no biases; the input and the output share E. A
weight starts from N(0, 1 / fan_in), smaller by sqrt(2 layers) where it writes into the residual stream, P and E
from N(0, 1 / d_model). A step sees `batch` windows of `context` tokens from random places of the training part, the
first 80 % of the text; the next 10 % are for validation, the last for testing.

With `mup` = d_0 the width follows the rules of muP for Adam (arXiv:2203.03466), under which the best learning rate of
width d_0 should stay the best: with m = d_model / d_0, products with W are divided by m and W starts m times larger,
P and E start from N(0, 1 / d_0), logits are divided by m and the scores of attention by sqrt(m).

The targets are what counting n-grams of the training part gives on the validation part, for n = 1 to 4; of tiny
Shakespeare, about what n = 1 and 2 give and what nanoGPT's README reports for its small and its larger network.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from optbench.fields import UserError, hyper
from optbench.lazy import np
from optbench.task import Arrays, Functions, Presets, Target, stream
from optbench.tasks.data import text
from optbench.tasks.network import PARTS, Network, Operations, means_by_part

ORDERS = (1, 2, 3, 4)
BASELINES = {"pydoc": (3.31856, 2.70617, 2.19019, 1.93142), "shakespeare": (3.3, 2.5, 1.88, 1.47)}
"""Targets that need no counting; those of pydoc are `text.baseline` for each of `ORDERS` (a test counts)."""
EVALUATED = 2**15
"""Tokens of each part that are evaluated, at most, spread evenly over it; no more for training than for others."""
EVALUATED_BATCHES = 32
"""The same in batches: a small network would else be evaluated for longer than it is trained."""
FEW = 128
"""Tokens a step."""
PIECE = 2**11
"""Tokens that are evaluated at a time."""
EPSILON = 1e-5
"""Added to the variances that are divided by, as in PyTorch."""


@dataclass(frozen=True, kw_only=True)
class Transformer(Network):
    __doc__ = __doc__
    presets: ClassVar[Presets] = {
        "transformer_8": {"d_model": 16, "layers": 1, "heads": 2, "context": 8},
        "transformer_tiny": {"d_model": 32, "layers": 1, "heads": 2, "context": 32},
    }
    source: ClassVar[str] = "arXiv:1706.03762; text of Python's help(), or a local file"
    score: ClassVar[str] = "test_loss"
    unit: ClassVar[str] = "tokens"
    evaluations: ClassVar[int] = 10

    d_model: int = hyper(64, "width of the residual stream", bounds="[1, 8192]")
    layers: int = hyper(2, "layers", bounds="[1, 96]")
    heads: int = hyper(4, "heads of attention; they divide d_model", bounds="[1, 128]")
    context: int = hyper(64, "tokens in a window", bounds="[1, 8192]")
    batch: int = hyper(16, "windows a step", bounds="[1, 8192]")
    mup: int = hyper(0, "width from which muP's rules scale; 0: standard rules", bounds="[0, 8192]")
    dataset: str = hyper("pydoc", "pydoc, shakespeare, or a file .txt or .bin in the data folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.heads:
            near = max(1, round(self.d_model / self.heads)) * self.heads
            raise UserError(
                f"task transformer: heads={self.heads} do not divide d_model={self.d_model}. "
                f"Give d_model={near}, or heads=1. See: optbench show transformer"
            )

    @property
    def wider(self) -> float:
        """The m of muP's rules; 1 without them."""
        return self.d_model / self.mup if self.mup else 1.0

    @property
    def horizon(self) -> int:
        """500; fewer for steps of few tokens, which are for quick runs."""
        return 500 if self.batch * self.context > FEW else 400

    def targets(self) -> tuple[Target, ...]:
        values = BASELINES.get(self.dataset) or [text.baseline(self.dataset, order) for order in ORDERS]
        return tuple(Target("validation_loss", value) for value in values)

    def roles(self) -> dict[str, str]:
        return {"embedding": "embedding", "position": "embedding"}

    def init(self, seed: int) -> dict[str, Any]:
        """Normal weights [out, in], gains of 1."""
        rng, d, wider = stream(seed, "init"), self.d_model, self.wider

        def normal(rows: int, columns: int, scale: float = 1.0) -> Any:
            return scale / math.sqrt(columns) * rng.standard_normal((rows, columns))

        into, apart = wider / math.sqrt(2 * self.layers), math.sqrt(wider)
        params = {
            "embedding": normal(text.load(self.dataset).vocabulary, d, apart),
            "position": normal(self.context, d, apart),
        }
        for i in range(self.layers):
            params |= {
                f"layer{i}_attention_gain": np.ones(d),
                f"layer{i}_attention": normal(3 * d, d, wider),
                f"layer{i}_attention_out": normal(d, d, into),
                f"layer{i}_mlp_gain": np.ones(d),
                f"layer{i}_mlp": normal(4 * d, d, wider),
                f"layer{i}_mlp_out": normal(d, 4 * d, into),
            }
        return params | {"gain": np.ones(d)}

    def data(self) -> dict[str, Any]:
        """The training part [n], and windows [w, context + 1] of each part, in their order, that are evaluated."""
        parts = text.load(self.dataset).parts()
        few = min(EVALUATED, EVALUATED_BATCHES * self.batch * self.context, len(parts["validation"]) - 1)
        arrays = {"tokens": np.asarray(parts["train"])}
        for part in PARTS:
            every = (len(parts[part]) - 1) // self.context
            count = min(few // self.context, every)
            windows = np.arange(count) * every // count
            at = self.context * windows[:, None] + np.arange(self.context + 1)
            arrays[part] = np.asarray(parts[part][at])
        return arrays

    def draws(self, seed: int, start: int, stop: int) -> dict[str, Any]:
        places = len(text.load(self.dataset).parts()["train"]) - self.context
        rngs = [stream(seed, f"batches/{t}") for t in range(start, stop)]
        return {"starts": np.stack([rng.integers(places, size=self.batch) for rng in rngs]).astype(np.int32)}

    def data_hash(self) -> str:
        parts = text.load(self.dataset).parts()
        least, needed = min(map(len, parts.values())), max(self.context + 1, *ORDERS)
        if least < needed:
            raise UserError(
                f"task transformer: text {self.dataset!r} has {least:,} tokens in its shortest part, and windows of "
                f"context={self.context} need {needed:,}. Give a longer text or a shorter context."
            )
        return text.data_hash(self.dataset)

    def notes(self) -> list[str]:
        return text.notes(self.dataset)

    def functions(self, ops: Operations) -> Functions:
        network = jax_logits if ops.jax else torch_logits

        def losses(params, windows):
            windows = ops.integers(windows)
            z = network(self, params, windows[:, :-1])
            return ops.cross_entropy(z, windows[:, 1:].reshape(-1)).reshape(-1, self.context)

        def loss(params, data, draw):
            starts = draw["starts"]
            windows = data["tokens"][starts[:, None] + ops.arange(self.context + 1, starts)]
            return losses(params, windows).mean()

        def evaluate(params, data):
            windows = ops.np.concatenate([data[part] for part in PARTS])
            each = ops.in_pieces(lambda piece: losses(params, piece), windows, self.windows)
            return means_by_part({"loss": each}, [len(data[part]) for part in PARTS])

        return Functions(loss, evaluate)

    @property
    def windows(self) -> int:
        return max(1, PIECE // self.context)

    def examples(self) -> int:
        return self.batch * self.context

    def working_floats(self) -> int:
        """Of each layer, what its products read and make; attention weights twice; logits twice."""
        each = self.layers * (20 * self.d_model + 2 * self.heads * self.context)
        return self.examples() * (each + 2 * text.load(self.dataset).vocabulary)

    def flops(self) -> float:
        """Six for each weight and token, and for each pair of tokens and number of a head."""
        weights = self.d_model * (12 * self.layers * self.d_model + text.load(self.dataset).vocabulary)
        pairs = 2 * self.layers * self.d_model * self.context
        return 6.0 * self.examples() * (weights + pairs)


# --- the network, in both frameworks: windows [b, t] to logits [b t, vocabulary] -----------------------------


def logits(task: Transformer, params: Arrays, tokens: Any, norm, linear, gelu, attention) -> Any:
    """The last four are what the frameworks compute in different ways, over [b t, d]."""
    count, time = tokens.shape

    def product(x, weight):
        return linear(x, weight) if task.wider == 1 else linear(x, weight) / task.wider

    x = (params["embedding"][tokens] + params["position"][:time]).reshape(count * time, task.d_model)
    for i in range(task.layers):
        at = f"layer{i}_"
        its = {name.removeprefix(at): p for name, p in params.items() if name.startswith(at)}
        mixed = attention(product(norm(x, its["attention_gain"]), its["attention"]))
        x = x + product(mixed, its["attention_out"])
        hidden = gelu(product(norm(x, its["mlp_gain"]), its["mlp"]))
        x = x + product(hidden, its["mlp_out"])
    return product(norm(x, params["gain"]), params["embedding"])


def jax_logits(task: Transformer, params: Arrays, tokens: Any) -> Any:
    """Products over all tokens at once, [b t, d]: two to three times faster on CPU than [b, t, d]."""
    import jax
    import jax.numpy as jnp

    count, time, d = *tokens.shape, task.d_model
    heads, each = task.heads, d // task.heads
    # XLA folds transposes into products, and on a CPU the gradient of a transposed factor then takes up to twice as
    # long. Behind a barrier it stays as it is written.
    as_written = jax.lax.optimization_barrier

    def norm(x, gain):
        x = x - x.mean(1, keepdims=True)
        return x * jax.lax.rsqrt((x * x).mean(1, keepdims=True) + EPSILON) * gain

    def linear(x, weight):
        out, into = weight.shape
        return x @ (as_written(weight.T) if out > into else weight.T)

    def attention(x):
        query, key, value = (part.reshape(count, time, heads, each) for part in jnp.split(x, 3, axis=1))
        scores = jnp.einsum("bqhd,bhdk->bhqk", query, as_written(key.transpose(0, 2, 3, 1)))
        past = jnp.tril(jnp.ones((time, time), bool))
        scores = jnp.where(past, scores / math.sqrt(each * task.wider), -jnp.inf)
        # The softmax, divided by its sum after the product with the values: of d numbers a token, not of `time`.
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(3, keepdims=True)))
        total = weights.sum(3).swapaxes(1, 2)[..., None]
        return (jnp.einsum("bhqk,bkhd->bqhd", weights, value) / total).reshape(count * time, d)

    return logits(task, params, tokens, norm, linear, jax.nn.gelu, attention)


def torch_logits(task: Transformer, params: Arrays, tokens: Any) -> Any:
    """The same in PyTorch; attention is spelled out, since the fused one has no second derivative."""
    import torch
    from torch.nn.functional import gelu, layer_norm, linear

    count, time, d = *tokens.shape, task.d_model
    heads, each = task.heads, d // task.heads

    def attention(x):
        query, key, value = x.reshape(count, time, 3, heads, each).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / math.sqrt(each * task.wider)
        future = torch.ones(time, time, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(future, -torch.inf).softmax(3)
        return (weights @ value).transpose(1, 2).reshape(count * time, d)

    def norm(x, gain):
        return layer_norm(x, (d,), gain, eps=EPSILON)

    tanh_gelu = functools.partial(gelu, approximate="tanh")
    return logits(task, params, tokens, norm, linear, tanh_gelu, attention)
