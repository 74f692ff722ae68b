"""What a person waits for at the command line."""

import os
import resource
import subprocess
import sys

import pytest

TRIES = 5


@pytest.mark.parametrize("words", ["--help", "list", "show kron"])
def test_light_command(words, goals):
    """CPU seconds of the whole process, the best of a few."""
    seconds = []
    for _ in range(TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "optbench", *words.split()],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "100"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    goals.at_most(f"optbench {words}", min(seconds), 0.3, " s of CPU")
