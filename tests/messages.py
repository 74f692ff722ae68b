"""What optbench says to bad input: the cases, and how their golden file is written.

python -m tests.messages        rewrites tests/golden/messages/messages.txt; read the difference as a user would
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

GOLDEN = Path(__file__).parent / "golden" / "messages" / "messages.txt"

FILES = {
    "a_file": "I am not a folder.\n",
    "syntax.py": "suite = Suite(\n",
    "imports.py": '"""A question."""\n\nimport not_installed_anywhere\n',
    "raises.py": "tasks = {}\nsuite = tasks['mlp']\n",
    "exits.py": "raise SystemExit(0)\n",
    "none.py": "something = 'else'\n",
    "words.py": (
        "from optbench.suite import Suite\nsuite = Suite(name='words', tasks=('mlp',), optimizers=('adam',))\n"
    ),
    "typo.py": "from optbench.optimizers import parse\nparse('adamm')\n",
    "empty.py": "from optbench.suite import Suite\nsuite = Suite(name='empty', tasks=(), optimizers=())\n",
    "torn.tsv": "task\toptimizer\ntwo\tcolumns\n",
}
"""What lies in the folder that the commands are run in."""

CASES = """
run --opt krn
run --opt kron,addam
run --opt
run --opt ''
run --opt ,
run --opt kron,adam,kron
run --opt kron --opt adam
run --opt 'kron[b3=0.5]'
run --opt 'kron[b1=1.5]'
run --opt 'kron[b1=much]'
run --opt 'kron[b1]'
run --opt 'kron[b1=0.9'
run --opt 'kron[b1=0.9,b1=0.8]'
run --opt 'kron[max_size_triangular=1.5]'
run --opt 'kron[memory_save_mode=one]'
run --opt 'sgd[nesterov=maybe]'
run --opt 'kron[learning_rate=0.1]'
run --opt optax:adabelif
run --opt torch:NAdam
run --opt nowhere:make
run --opt 'optax:yogi[b4=1]'
run --opt 'optax:yogi[sweep=1:2]'
run --opt 'sgd[nesterov=True]'
run --task rosenbrok
run --task
run --task 'quadratic[dims=3]'
run --task 'quadratic[dim=0]'
run --task 'quadratic[dim=ten]'
run --task quadratic,quadratic_10
run --suite quikstart
run --suite missing.py
run --suite syntax.py
run --suite imports.py
run --suite raises.py
run --suite exits.py
run --suite none.py
run --suite words.py
run --suite typo.py
run --suite empty.py
run --lr -0.1
run --lr 0
run --lr nan
run --lr inf
run --lr 0.1,fast
run --lr 0.1 0.10
run --lr
run --steps 0
run --steps -5
run --seeds 0
run --seeds -1
run --jobs 0
run --timeout 0
run --timeout nan
run --schedule cosin
run --schedule 'cosine[warmup=2]'
run --schedule 'cosine[warmup=long]'
run --schedule 'cosine[warm=0.1]'
run --schedule 'cosine[warmup=0.1'
run --framework tensorflow
run --dtype float16
run --lanes pmap
run --device abacus
run --device gpu
run --results a_file
run --results a_file/below
run --results read_only
run --results full
show krn
claims warm-up
claims everything
claims --jobs 0
claims ,
check --suite gaet
check
check --baselines torn.tsv
""".strip().splitlines()


@contextlib.contextmanager
def conditions() -> Iterator[None]:
    """No accelerator, a folder that cannot be written and one that is full, whatever machine this is."""
    mkdir, write = Path.mkdir, Path.write_bytes

    def failing(code: int) -> OSError:
        return OSError(code, os.strerror(code))

    def refuse(path, *rest, **options):
        if "read_only" in path.parts:
            raise failing(errno.EROFS)
        if "full" not in path.parts:
            mkdir(path, *rest, **options)

    def fill(path, data):
        if "full" in path.parts:
            raise failing(errno.ENOSPC)
        return write(path, data)

    with (
        mock.patch("optbench.execute.devices.PLUGINS", ()),
        mock.patch.object(Path, "mkdir", refuse),
        mock.patch.object(Path, "write_bytes", fill),
    ):
        yield


def said(case: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command, run here in this process."""
    from optbench import suite
    from optbench.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["optbench", *shlex.split(case)]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", argv),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return code, out.getvalue(), err.getvalue().replace(str(suite.folder()), "SUITES")


@contextlib.contextmanager
def somewhere() -> Iterator[Path]:
    """A folder with the files that the cases speak of, as the working directory."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        for file, text in FILES.items():
            Path(file).write_text(text)
        yield Path(name)


def written() -> str:
    """The golden file as the code of today would write it."""
    parts = []
    with somewhere(), conditions():
        for case in CASES:
            parts.append(f"$ optbench {case}\n{said(case)[2]}")
    return "\n".join(parts)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(written())
