"""The catalogue of tasks. Add one: write its file, add its class to `CLASSES`."""

from __future__ import annotations

from optbench.fields import from_text
from optbench.task import Task
from optbench.tasks.autoencoder import Autoencoder
from optbench.tasks.mlp import MLP
from optbench.tasks.plane import Plane
from optbench.tasks.quadratic import Quadratic
from optbench.tasks.resnet import ResNet
from optbench.tasks.rosenbrock import Rosenbrock
from optbench.tasks.transformer import Transformer
from optbench.tasks.xor_rnn import XorRNN

CLASSES: tuple[type[Task], ...] = (
    Quadratic,
    Rosenbrock,
    MLP,
    ResNet,
    Transformer,
    Autoencoder,
    XorRNN,
    Plane,
)

PRESETS: dict[str, Task] = {
    "quadratic_10": Quadratic(dim=10),
    "quadratic_10_1e4": Quadratic(dim=10, condition=1e4),
    "quadratic_10_1e6": Quadratic(dim=10, condition=1e6),
    "quadratic_100": Quadratic(dim=100, condition=1e4),
    "quadratic_100_1e2": Quadratic(dim=100, condition=1e2),
    "quadratic_100_1e6": Quadratic(dim=100, condition=1e6),
    "quadratic_1000": Quadratic(dim=1000, condition=1e4, spectrum="clustered"),
    "rosenbrock_2": Rosenbrock(dim=2),
    "rosenbrock_10": Rosenbrock(dim=10),
    "rosenbrock_100": Rosenbrock(dim=100),
    "rosenbrock_1000": Rosenbrock(dim=1000),
    "resnet_quick": ResNet(width=4, batch=16, augment=False),
    "resnet_tiny": ResNet(width=8, batch=32),
    "resnet_14": ResNet(depth=14),
    "transformer_8": Transformer(d_model=16, layers=1, heads=2, context=8),
    "transformer_tiny": Transformer(d_model=32, layers=1, heads=2, context=32),
    "xor_rnn_32": XorRNN(length=32),
    "valley": Plane(function="valley"),
    "bowl": Plane(function="bowl"),
}
"""Names for settings that are often asked for."""


def names() -> dict[str, Task]:
    """Every task by name, with its defaults, and the presets."""
    return {**{cls.name: cls() for cls in CLASSES}, **PRESETS}


def parse(text: str) -> Task:
    """A task from `name` or `name[field=value,...]`."""
    return from_text("task", text, names())


def label(task: Task) -> str:
    """The preset's name if it is one, else the name with what differs from the defaults."""
    return next((name for name, preset in PRESETS.items() if preset == task), task.label())
