"""The catalogue of tasks. Add one: write its file, add its class to `CLASSES`."""

from __future__ import annotations

from optbench.task import Task
from optbench.tasks.autoencoder import Autoencoder
from optbench.tasks.mlp import MLP
from optbench.tasks.ngrams import NGrams
from optbench.tasks.plane import Plane
from optbench.tasks.power_law import PowerLaw
from optbench.tasks.quadratic import Quadratic
from optbench.tasks.resnet import ResNet
from optbench.tasks.rosenbrock import Rosenbrock
from optbench.tasks.transformer import Transformer
from optbench.tasks.xor_rnn import XorRNN
from optbench.tasks.zipf import Zipf

CLASSES: tuple[type[Task], ...] = (
    Quadratic,
    Rosenbrock,
    MLP,
    ResNet,
    Transformer,
    Autoencoder,
    XorRNN,
    Plane,
    PowerLaw,
    NGrams,
    Zipf,
)


def names() -> dict[str, Task]:
    """Every task by name, with its defaults, and the presets."""
    presets = {name: cls(**fields) for cls in CLASSES for name, fields in cls.presets.items()}
    return {**{cls.name: cls() for cls in CLASSES}, **presets}


def parse(text: str) -> Task:
    """A task from `name` or `name[field=value,...]`."""
    from optbench import catalogue

    return catalogue.task(text)
