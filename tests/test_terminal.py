"""What `optbench run` prints, beside the golden messages."""

import pandas as pd

from optbench.stats.summary import COLUMNS


def test_the_legend_names_tasks_whole_and_each_target_once():
    """Underscores of names were taken for blanks: `transformer[d model=128]`; and a target stood there once a task."""
    from optbench.terminal import legend

    table = pd.DataFrame(
        {
            "task": ["mlp", "mlp", "mlp[width=512]", "xor_rnn_32"],
            "target": ["validation_error 0.05"] * 3 + ["validation_error 0.1"],
            "seeds": 1,
        }
    )
    lines = legend(table).splitlines()
    assert (
        "steps: to the target (mlp, mlp[width=512]: validation error 0.05; xor_rnn_32: validation error 0.1)."
        in (" ".join(lines))
    )
    assert max(map(len, lines)) <= COLUMNS


def test_a_program_of_one_lane_has_one_lane():
    from optbench import optimizers, tasks
    from optbench.cell import Cell
    from optbench.plan import Program
    from optbench.terminal import title

    cell = Cell(tasks.parse("mlp"), optimizers.parse("adam"), steps=10)
    assert title(Program((cell,), "map")) == "mlp / adam, 1 lane"
    assert title(Program((cell, cell), "map")) == "mlp / adam, 2 lanes"
