"""A decoder-only transformer that predicts the next character (Vaswani et al., arXiv:1706.03762; GPT-2).

    h = E[tokens] + P
    h = h + W_o attention(norm(h)),  h = h + W_2 gelu(W_1 norm(h))     in each layer (pre-norm)
    logits = norm(h) E^T

Causal attention of several heads; layer normalisation with a gain; no biases; input and output share E. Weights start
from N(0, 0.02^2), those that write into the residual stream smaller by sqrt(2 layers). A step sees `batch` windows of
`context` tokens at random places of the training part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optbench.core import Functions, Target, Task, UserError, hyper, stream
from optbench.tasks.data import text

if TYPE_CHECKING:
    import numpy as np

PARTS = ("train", "validation", "test")
EVALUATED = 2**16
"""Tokens of each part that are evaluated, at most: its first ones."""


@dataclass(frozen=True, kw_only=True)
class Transformer(Task):
    __doc__ = __doc__
    name: ClassVar[str] = "transformer"
    source: ClassVar[str] = "arXiv:1706.03762; text of Python's help(), or a local file"
    selection: ClassVar[str] = "validation_loss"
    score: ClassVar[str] = "test_loss"
    unit: ClassVar[str] = "tokens"

    d_model: int = hyper(64, "width of the residual stream", bounds="[1, 4096]")
    layers: int = hyper(2, "layers", bounds="[1, 48]")
    heads: int = hyper(4, "attention heads; they divide d_model", bounds="[1, 64]")
    context: int = hyper(64, "tokens of a window", bounds="[1, 4096]")
    batch: int = hyper(16, "windows a step", bounds="[1, 4096]")
    dataset: str = hyper("pydoc", "pydoc, shakespeare, or a file .txt or .bin in the folder of --data")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.heads:
            raise UserError(
                f"task transformer: heads={self.heads} do not divide d_model={self.d_model}. "
                f"Write transformer[d_model={self.d_model // self.heads * self.heads},heads={self.heads}]"
            )

    @property
    def horizon(self) -> int:
        """Steps."""
        return 500

    def targets(self) -> tuple[Target, ...]:
        """What counting n-grams of the training part would give on the validation part: n = 2, 3, 4."""
        return tuple(Target("validation_loss", value) for value in self.baselines())

    def init(self, seed: int) -> dict[str, np.ndarray]:
        """Normal weights [out, in], gains of 1."""
        import numpy as np

        rng, d = stream(seed, "init"), self.d_model
        small = 0.02 / math.sqrt(2 * self.layers)
        params = {
            "embedding": 0.02 * rng.standard_normal((text.load(self.dataset).vocabulary, d)),
            "position": 0.02 * rng.standard_normal((self.context, d)),
        }
        for i in range(self.layers):
            params[f"gain_attention{i}"] = np.ones(d)
            params[f"attention{i}"] = 0.02 * rng.standard_normal((3 * d, d))
            params[f"project{i}"] = small * rng.standard_normal((d, d))
            params[f"gain_mlp{i}"] = np.ones(d)
            params[f"expand{i}"] = 0.02 * rng.standard_normal((4 * d, d))
            params[f"contract{i}"] = small * rng.standard_normal((d, 4 * d))
        return {**params, "gain": np.ones(d)}

    def data(self):
        import numpy as np
        parts = text.load(self.dataset).parts()
        found = {"tokens": parts["train"]}
        for part in PARTS:
            w = self.windows(len(parts[part]))
            found[part] = np.stack([parts[part][i*self.context:(i+1)*self.context+1] for i in range(w)])
        return found

    def windows(self, n):
        return max(1, min(n - 1, EVALUATED) // self.context)

    def draws(self, seed, start, stop):
        import numpy as np
        n = len(text.load(self.dataset).parts()["train"]) - self.context
        return {"starts": np.stack([stream(seed, f"batches/{t}").integers(n, size=self.batch) for t in range(start, stop)]).astype(np.int32)}

    def data_hash(self):
        return text.data_hash(self.dataset)
    def baselines(self):
        return (2.7,2.19,1.93)
    def flops(self) -> float:
        weights = 12 * self.layers * self.d_model**2 + 100 * self.d_model
        return 6.0*self.batch*self.context*(weights + 2*self.layers*self.context*self.d_model)

    def jax(self) -> Functions:
        import jax, jax.numpy as jnp
        H, T, D = self.heads, self.context, self.d_model

        def norm(x, gain):
            x = x - x.mean(-1, keepdims=True)
            return gain * x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)

        def logits(params, tokens):
            B, T = tokens.shape
            x = (params["embedding"][tokens] + params["position"][:T]).reshape(B * T, D)
            mask = jnp.tril(jnp.ones((T, T), bool))
            for i in range(self.layers):
                qkv = norm(x, params[f"gain_attention{i}"]) @ params[f"attention{i}"].T
                q, k, v = jnp.moveaxis(qkv.reshape(B, T, 3, H, D // H), (2, 3), (0, 2))
                scores = q @ k.swapaxes(-1, -2) / math.sqrt(D // H)
                weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
                mixed = (weights @ v).swapaxes(1, 2).reshape(B * T, D)
                x = x + mixed @ params[f"project{i}"].T
                hidden = jax.nn.gelu(norm(x, params[f"gain_mlp{i}"]) @ params[f"expand{i}"].T)
                x = x + hidden @ params[f"contract{i}"].T
            return norm(x, params["gain"]) @ params["embedding"].T

        def cross_entropy(params, window):
            z = logits(params, window[:, :-1])
            chosen = jnp.take_along_axis(z, window[:, 1:].reshape(-1, 1), axis=1)[:, 0]
            return jnp.mean(jax.nn.logsumexp(z, axis=1) - chosen)

        def loss(params, data, draw):
            return cross_entropy(params, data["tokens"][draw["starts"][:, None] + jnp.arange(T + 1)].astype(jnp.int32))

        def evaluate(params, data):
            return {f"{part}_loss": cross_entropy(params, data[part].astype(jnp.int32)) for part in PARTS}

        return Functions(loss, evaluate)
