"""A small convolutional network on the digits, for tests of what must not run inside a compiled loop on CPU."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from optbench.fields import hyper
from optbench.task import Functions, Target, Task, permutations, stream
from optbench.tasks.data import digits


@dataclass(frozen=True, kw_only=True)
class ConvNet(Task):
    """Two 3x3 convolutions of the images, enlarged by repetition, a mean over the map, and a linear layer."""

    name: ClassVar[str] = "convnet"
    source: ClassVar[str] = "a test"
    convolves: ClassVar[bool] = True

    width: int = hyper(8, "channels")
    batch: int = hyper(16, "images a step")
    enlarge: int = hyper(1, "how often each pixel is repeated along both axes")

    def targets(self):
        return (Target("validation_loss", 0.1),)

    def data(self):
        return digits.splits()

    def init(self, seed):
        rng = stream(seed, "init")
        shapes = {"c0": (self.width, 1, 3, 3), "c1": (self.width, self.width, 3, 3), "w": (10, self.width)}
        return {
            name: rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
            for name, shape in shapes.items()
        }

    def draws(self, seed, start, stop):
        rows = len(self.data()["train_y"])
        return {"rows": permutations(seed, start, stop, rows, self.batch)}

    def jax(self):
        import jax
        import jax.numpy as jnp

        def convolved(x, w):
            return jax.nn.relu(jax.lax.conv_general_dilated(x, w, (1, 1), "SAME"))

        def value(params, x, y):
            x = x.reshape(-1, 1, 8, 8).repeat(self.enlarge, 2).repeat(self.enlarge, 3)
            x = convolved(convolved(x, params["c0"]), params["c1"])
            z = x.mean((2, 3)) @ params["w"].T
            return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])

        return self.functions(value)

    def torch(self):
        from torch.nn.functional import conv2d, cross_entropy, relu

        def value(params, x, y):
            x = x.reshape(-1, 1, 8, 8).repeat_interleave(self.enlarge, 2).repeat_interleave(self.enlarge, 3)
            x = relu(conv2d(relu(conv2d(x, params["c0"], padding=1)), params["c1"], padding=1))
            return cross_entropy(x.mean((2, 3)) @ params["w"].T, y)

        return self.functions(value)

    def functions(self, value):
        def loss(params, data, draw):
            return value(params, data["train_x"][draw["rows"]], data["train_y"][draw["rows"]])

        def evaluate(params, data):
            few = slice(0, 16)  # so that tests are fast
            return {"validation_loss": value(params, data["validation_x"][few], data["validation_y"][few])}

        return Functions(loss, evaluate)

    def examples(self):
        return self.batch

    def flops(self):
        pixels = 64 * self.enlarge**2
        return 6.0 * self.batch * pixels * 9 * (self.width + self.width**2)

    def working_floats(self):
        return 4 * self.batch * 64 * self.enlarge**2 * self.width
