"""Run three optimizers over many seeds of four tasks and keep the final losses: python -m tests.banks

Ten minutes on two cores. The losses are those that `optbench try` compares, at a learning rate that a grid chose.
"""

import tempfile

import numpy as np

import optbench
from optbench.stats.comparison import log_losses
from tests.banks import FILE

SEEDS = 240
RATES = {
    "mlp[width=32]": (0.00316, 0.0316, 0.0949),
    "xor_rnn[length=8,units=16,batch=32]": (0.01, 0.0316, 0.03),
    "quadratic[dim=20,noise=0.1]": (0.01, 0.00316, 0.03),
    "mlp[layers=0,batch=64]": (0.1, 0.1, 0.949),
}
OPTIMIZERS = ("adam", "novograd", "sgd[momentum=0.9]")


def main() -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for task, rates in RATES.items():
            for optimizer, rate in zip(OPTIMIZERS, rates, strict=True):
                result = optbench.run(
                    optimizer, task=task, lr=rate, seeds=SEEDS, results=folder, progress=False
                )
                rows = result.frame[(result.frame["task"] == task) & (result.frame["optimizer"] == optimizer)]
                found[f"{task}|{optimizer}"] = log_losses(rows.sort_values("seed")).astype(np.float32)
                print(task, optimizer, len(rows), flush=True)
    np.savez_compressed(FILE, allow_pickle=False, **found)


if __name__ == "__main__":
    main()
