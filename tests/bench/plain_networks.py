"""The networks as people write them: products over [batch, time, width], convolutions by XLA."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from optbench.tasks.resnet import ResNet
from optbench.tasks.transformer import EPSILON, Transformer


def loss_of(task):
    """The loss of a task: (parameters, data, draw) to a number."""
    if isinstance(task, Transformer):
        return transformer(task)
    if isinstance(task, ResNet):
        return Convolved(**dataclasses.asdict(task)).jax().loss
    return task.jax().loss


class Convolved(ResNet):
    """The same network by XLA's convolution, whatever the size of its images."""

    convolves = True


def transformer(task):
    """Next-token loss of a decoder with pre-norm layers, all activations [batch, time, ...]."""

    def norm(x, gain):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(variance + EPSILON) * gain

    def attention(x, into, out):
        batch, time, d = x.shape
        q, k, v = (part.reshape(batch, time, task.heads, -1) for part in jnp.split(x @ into.T, 3, axis=-1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
        scores = jnp.where(jnp.tril(jnp.ones((time, time), bool)), scores, -jnp.inf)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
        return mixed.reshape(batch, time, d) @ out.T

    def logits(p, tokens):
        x = p["embedding"][tokens] + p["position"]
        for i in range(task.layers):
            name = f"layer{i}_"
            h = norm(x, p[name + "attention_gain"])
            x = x + attention(h, p[name + "attention"], p[name + "attention_out"])
            h = jax.nn.gelu(norm(x, p[name + "mlp_gain"]) @ p[name + "mlp"].T)
            x = x + h @ p[name + "mlp_out"].T
        return norm(x, p["gain"]) @ p["embedding"].T

    def loss(params, data, draw):
        windows = data["tokens"][draw["starts"][:, None] + jnp.arange(task.context + 1)].astype(jnp.int32)
        z = logits(params, windows[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(z, windows[:, 1:]).mean()

    return loss
