"""The engine of this checkout against an older commit's, alternated: python -m tests.bench.against [COMMIT]

Each row runs the same programs in both, several times in turn on one core, and compares the seconds of their steps
(`program_seconds`, without compilation) and the CPU of the whole process. The median ratio counts: new over old.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from optbench import environment

ROOT = Path(__file__).parents[2]
PAIRS = 7
RATES = "--lr 0.1,0.0316,0.01,0.00316,0.001"
"""Given, so that no commit adds a stage with other seeds."""
ROWS = (
    f"--task quadratic_100 --opt adam --seeds 5 --steps 4000 {RATES}",
    f"--task rosenbrock_100 --opt kron --seeds 5 --steps 1000 {RATES}",
    f"--task mlp --opt adam --seeds 2 {RATES}",
    "--task mlp --opt kron --seeds 2 --lr 0.01,0.001",
    "--task transformer_8 --opt novograd --seeds 1 --lr 0.01,0.001 --steps 100",
    "--task quadratic_100 --opt adam --framework torch --seeds 1 --lr 0.1,0.01 --steps 500",
    "--task mlp --opt kron --framework torch --seeds 1 --lr 0.01 --steps 100",
    "--suite quickstart --opt kron,adam,novograd --seeds 1 --lr 0.1,0.01,0.001",
)
READ = """
import json, sys
from optbench.store import Store
rows = Store(sys.argv[1]).frame().drop_duplicates(["task", "optimizer", "program_seconds"])
print(json.dumps(float(rows["program_seconds"].sum())))
"""


def python(tree: Path, *words: str) -> subprocess.CompletedProcess:
    path = {"PYTHONPATH": str(tree), "OPTBENCH_CACHE": str(tree / ".bench_cache")}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=tree, env={**os.environ, **path}, capture_output=True, text=True, check=True
    )


def measured(tree: Path, row: str) -> tuple[float, float]:
    """Seconds of the steps, and CPU seconds of all processes."""
    with tempfile.TemporaryDirectory() as results:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python(tree, "-m", "optbench", "run", *row.split(), "--jobs", "1", "--results", results)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = json.loads(python(tree, "-c", READ, results).stdout)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(commit: str) -> None:
    with environment.checked_out(ROOT, commit) as (_, _, old):
        if not (old / "optbench/suites").exists():  # once they were installed into the package
            (old / "optbench/suites").symlink_to(old / "suites")
        print(f"{'new / ' + commit[:12]:<90} steps   CPU")
        for row in ROWS:
            for tree in (old, ROOT):
                measured(tree, row)  # fills the compilation caches
            pairs = [(measured(old, row), measured(ROOT, row)) for _ in range(PAIRS)]
            steps, cpu = (median(new[k] / before[k] for before, new in pairs) for k in (0, 1))
            print(f"{row:<90} {steps:5.3f} {cpu:5.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "HEAD")
