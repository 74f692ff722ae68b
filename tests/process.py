"""Commands in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python(*words: str, cwd: Path = ROOT, timeout: float = 280, **env: str) -> subprocess.CompletedProcess:
    """`python ...` with nothing to read; `env` are variables beside those of this process."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    how = {"env": variables, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run([sys.executable, *words], cwd=cwd, timeout=timeout, **how)


def command(*words: str, **how) -> subprocess.CompletedProcess:
    """`optbench ...`."""
    return python("-m", "optbench", *words, **how)
