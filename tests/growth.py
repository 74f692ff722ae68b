"""Twenty steps of an optimizer on a network, in JAX and in PyTorch, beside what a rounding grows to.

In float64, from the same parameters, batches and noise. The growth is measured by twins in JAX, whose parameters are
moved by one rounding after every step; the distances are those of the losses, relative to the largest so far.

python -m tests.growth [name ...]     measures (again) and rewrites tests/golden/growth.tsv
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from optbench import optimizers
from optbench.cell import Cell
from optbench.protocol import FRAMEWORKS
from optbench.tasks import ResNet, Transformer
from tests.contract import run

GOLDEN = Path(__file__).parent / "golden" / "growth.tsv"
TASKS = {
    "resnet": ResNet(width=4, batch=8),
    "transformer": Transformer(d_model=16, layers=1, heads=2, context=12, batch=4),
}
STEPS, TWINS, FACTOR = 20, 3, 3.0
FLOOR = 64 * 2.0**-52
"""Always allowed: a loss is itself a rounded sum."""
SPECIAL = {"rprop": "rprop[max_step=0.05]"}
"""Made for full batches: with steps as large as it likes it leaves every scale."""


class Measured(NamedTuple):
    """The largest distances within the steps."""

    growth: float
    difference: float

    @property
    def allowed(self) -> float:
        """How far apart the frameworks may be."""
        return max(FACTOR * self.growth, FLOOR)


def declared() -> list[str]:
    """Every optimizer that both frameworks have, that is the same method in both and fits a network."""
    known = optimizers.names().items()
    return [
        name for name, each in known if each.frameworks() == FRAMEWORKS and each.parity and not each.dense
    ]


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The distance of two traces at each step, relative to the largest loss so far."""
    return np.abs(other - one) / np.maximum.accumulate(np.abs(one))


def measure(name: str, task: str) -> Measured:
    """Run the twins as lanes of one program, and PyTorch beside them."""
    what = TASKS[task], optimizers.parse(SPECIAL.get(name, name)).trials(1)[0]
    fields = {"steps": STEPS, "dtype": "float64"}
    cells = [Cell(*what, twin=twin, **fields) for twin in range(TWINS + 1)]
    straight, *twins = (trace.losses for trace in run(cells, "map"))
    other = run([Cell(*what, twin=0, framework="torch", **fields)])[0].losses
    assert len(straight) == len(other) == STEPS
    return Measured(
        float(np.max([distance(straight, twin).max() for twin in twins])),
        float(distance(straight, other).max()),
    )


def committed() -> dict[tuple[str, str], Measured]:
    """The measurements of the golden file."""
    rows = [line.split("\t") for line in GOLDEN.read_text().splitlines() if not line.startswith("#")][1:]
    return {(task, name): Measured(*map(float, numbers)) for task, name, *numbers in rows}


def write(found: dict[tuple[str, str], Measured]) -> None:
    order = sorted(found, key=lambda key: (list(TASKS).index(key[0]), declared().index(key[1])))
    lines = [
        f"# Largest relative distance of the losses over {STEPS} steps in float64: of JAX's {TWINS} twins, moved",
        "# by one rounding a step, from their original (growth); of PyTorch from JAX (difference, at most",
        f"# {FACTOR:g} x growth).",
        "# python -m tests.growth",
        "task\toptimizer\tgrowth\tdifference",
        *("\t".join([*key, f"{found[key].growth:.3g}", f"{found[key].difference:.3g}"]) for key in order),
    ]
    GOLDEN.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    known = committed() if GOLDEN.exists() else {}
    for task in TASKS:
        for name in sys.argv[1:] or declared():
            known[task, name] = measure(name, task)
            print(task, name, known[task, name], flush=True)
            write(known)
