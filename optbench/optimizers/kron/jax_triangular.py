"""Products with upper triangular matrices, in blocks that leave out the zeros.

Of a dense product's arithmetic Q X keeps 9/16 with eight blocks, a Gram matrix as much, the product of two
triangles a quarter. The numbers are those of the dense products up to the order of summation. (A triangular
solve leaves the zeros out by itself.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Cut(NamedTuple):
    """How a triangular matrix is cut: blocks of at least `least` rows, at most `most` of them.

    Smaller blocks make slow matrix products, more of them long compilations.
    """

    least: int
    most: int

    def spans(self, n: int) -> list[tuple[int, int]]:
        """The rows where blocks start and stop; one span for what is too small to cut."""
        count = min(self.most, max(1, n // self.least))
        size = -(-n // count)
        return [(start, min(start + size, n)) for start in range(0, n, size)]

    def times(self, q: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.concatenate([q[i:j, i:] @ x[i:] for i, j in self.spans(len(q))])

    def t_times(self, q: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.concatenate([q[:j, i:j].T @ x[:j] for i, j in self.spans(len(q))])

    def right_times(self, x: jax.Array, q: jax.Array) -> jax.Array:
        return jnp.concatenate([x[:, :j] @ q[:j, i:j] for i, j in self.spans(len(q))], axis=1)

    def right_t_times(self, x: jax.Array, q: jax.Array) -> jax.Array:
        return jnp.concatenate([x[:, i:] @ q[i:j, i:].T for i, j in self.spans(len(q))], axis=1)

    def both(self, t: jax.Array, q: jax.Array) -> jax.Array:
        """T Q of two triangular matrices, by halves."""
        n = len(q)
        if n < 2 * self.least:
            return t @ q
        half = n // 2
        first = self.both(t[:half, :half], q[:half, :half])
        last = self.both(t[half:, half:], q[half:, half:])
        below = jnp.zeros((len(last), len(first)), first.dtype)
        return jnp.block([[first, t[:half] @ q[:, half:]], [below, last]])

    def gram(self, x: jax.Array) -> jax.Array:
        """The upper triangle of X X^T, zeros below."""
        strips = []
        for i, j in self.spans(len(x)):
            strip = x[i:j] @ x[i:].T
            # Only the block on the diagonal is masked: a mask of the whole matrix costs memory and time.
            parts = [jnp.zeros((j - i, i), x.dtype), jnp.triu(strip[:, : j - i]), strip[:, j - i :]]
            strips.append(jnp.concatenate(parts, axis=1))
        return jnp.concatenate(strips)


DENSE = Cut(least=1 << 30, most=1)
"""One block: zeros are multiplied like everything else."""


def symmetric_lower_bound(upper: jax.Array) -> jax.Array:
    """A cheap lower bound of the spectral norm of the symmetric matrix of which this is the upper triangle.

    The original's works on any matrix and chooses between its longest row and its longest column, which are
    the same here. The other triangle is never written out: transposing costs more than the bound.
    """
    largest = jnp.max(jnp.abs(upper))
    b = upper / jnp.where(largest > 0, largest, 1)
    diagonal = jnp.diagonal(b)

    def times_b(x: jax.Array) -> jax.Array:
        return x @ b + b @ x - x * diagonal

    squares = b * b
    i = jnp.argmax(jnp.sum(squares, axis=0) + jnp.sum(squares, axis=1) - diagonal * diagonal)
    x = times_b((b[i] + b[:, i]).at[i].set(diagonal[i]))
    return jnp.where(largest > 0, largest * jnp.linalg.norm(times_b(x / jnp.linalg.norm(x))), largest)
