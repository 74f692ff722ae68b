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

from tests import datafiles

GOLDEN = Path(__file__).parent / "golden" / "messages" / "messages.txt"

FILES = {
    "a_file": "I am not a folder.\n",
    "syntax.py": "suite = Suite(\n",
    "imports.py": '"""A question."""\n\nimport not_installed_anywhere\n',
    "raises.py": "tasks = {}\nsuite = tasks['mlp']\n",
    "exits.py": "raise SystemExit(0)\n",
    "ends.py": "raise GeneratorExit\n",
    "nameless.py": (
        "from optbench import optimizers, tasks\nfrom optbench.suite import Suite\n"
        "suite = Suite(None, (tasks.parse('mlp'),), (optimizers.parse('adam'),))\n"
    ),
    "none.py": "something = 'else'\n",
    "words.py": (
        "from optbench.suite import Suite\nsuite = Suite(name='words', tasks=('mlp',), optimizers=('adam',))\n"
    ),
    "typo.py": "from optbench.optimizers import parse\nparse('adamm')\n",
    "empty.py": "from optbench.suite import Suite\nsuite = Suite(name='empty', tasks=(), optimizers=())\n",
    "no_step.csv": "task,optimizer,seed,loss\nlm,adam,0,1\n",
    "nan.csv": "task,optimizer,seed,step,loss\nlm,adam,0,0,2\nlm,adam,0,1,nan\n",
    "formula.csv": "task,optimizer,seed,step,loss\nlm,=1+1,0,0,2\n",
    "twice.csv": "task,optimizer,seed,step,loss\nlm,adam,0,0,2\nlm,adam,0,0,2\n",
    "metrics.csv": "task,optimizer,seed,step,metric,value\nlm,adam,0,0,a,2\nlm,adam,0,0,b,2\n",
    "negative.csv": "submission,workload,study,time\nadam,wmt,0,-3\n",
    "torn.csv": 'task,optimizer\nlm,"adam\n',
    "torn.tsv": "task\toptimizer\ntwo\tcolumns\n",
}
"""What lies in the folder that the commands are run in."""


def data_folders(here: Path) -> None:
    """Data folders that are damaged, each in one way."""
    (here / "no_data").mkdir()
    (datafiles.cifar_binary(here / "one_missing") / "data_batch_4.bin").unlink()
    damaged = {
        "cut_short": (datafiles.cifar_binary, "data_batch_2.bin", lambda raw: raw[:-1]),
        "wrong_label": (datafiles.cifar_binary, "test_batch.bin", lambda raw: b"\x0a" + raw[1:]),
        "code": (datafiles.cifar_python, "data_batch_1", lambda raw: b"cposix\nsystem\n(S'touch ran'\ntR."),
        "torn": (datafiles.cifar_python, "data_batch_5", lambda raw: raw[:100]),
        "empty_pickle": (datafiles.cifar_python, "data_batch_5", lambda raw: b"\x80\x02}."),
        "wrong_magic": (datafiles.mnist, "train-labels-idx1-ubyte", lambda raw: b"PNG\n" + raw[4:]),
        "too_few": (datafiles.mnist, "t10k-images-idx3-ubyte", lambda raw: raw[:-784]),
        "torn_gz": (
            lambda at: datafiles.mnist(at, packed=True),
            "train-labels-idx1-ubyte.gz",
            lambda raw: raw[:-9],
        ),
    }
    for name, (write, file, damage) in damaged.items():
        path = write(here / name) / file
        path.write_bytes(damage(path.read_bytes()))
    texts = {
        "empty.txt": b"",
        "latin1.txt": b"caf\xe9",
        "short.txt": b"too short",
        "odd.bin": b"\x01\x02\x03",
    }
    for name, raw in texts.items():
        (here / "no_data" / name).write_bytes(raw)


CASES = (
    """
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
run --task 'resnet[depth=9]'
run --task 'resnet[width=6]'
run --task 'resnet[dataset=cifar]'
run --axis batch
run --suite scaling --axis depth
run --suite scaling --axis batch --task mlp
run --task 'transformer[heads=5]'
run --task 'transformer[dataset=pydocs]'
run --task 'transformer[dataset=../a.txt]'
run --task 'autoencoder[width=30]'
run --task 'resnet[dataset=cifar10]'
run --task 'transformer[dataset=shakespeare]'
run --data nowhere
run --data a_file
run --task 'resnet[dataset=cifar10]' --data no_data
run --task 'resnet[dataset=mnist]' --data no_data
run --task 'transformer[dataset=shakespeare]' --data no_data
run --task 'transformer[dataset=mine.txt]' --data no_data
run --task 'resnet[dataset=cifar10]' --data one_missing
run --task 'resnet[dataset=cifar10]' --data cut_short
run --task 'resnet[dataset=cifar10]' --data wrong_label
run --task 'resnet[dataset=cifar10]' --data code
run --task 'resnet[dataset=cifar10]' --data torn
run --task 'resnet[dataset=cifar10]' --data empty_pickle
run --task 'resnet[dataset=mnist]' --data wrong_magic
run --task 'resnet[dataset=mnist]' --data too_few
run --task 'resnet[dataset=mnist]' --data torn_gz
run --task 'transformer[dataset=empty.txt]' --data no_data
run --task 'transformer[dataset=latin1.txt]' --data no_data
run --task 'transformer[dataset=short.txt]' --data no_data
run --task 'transformer[dataset=odd.bin]' --data no_data
import csv nowhere.csv
import csv a_file
import csv torn.csv
import csv no_step.csv
import csv nan.csv
import csv formula.csv
import csv twice.csv
import csv metrics.csv
import csv metrics.csv --metric c
import algoperf negative.csv
import algoperf no_step.csv
import algoperf negative.csv --metric loss
export
export --to curves.csv
run --suite quikstart
run --suite missing.py
run --suite syntax.py
run --suite imports.py
run --suite raises.py
run --suite exits.py
run --suite ends.py
run --suite nameless.py
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
run --lr 0.1 --tuning quasi
run --tuning sobol
run --trials 0
run --trials 99999999999999999999
run --steps 99999999999999999999
run --seeds 1001
report --tuning sobol
report --results LONG
run --lr
run --steps 0
run --steps -5
run --seeds 0
run --seeds -1
run --jobs 0
run --shard 3/2
run --shard one
run --address auto
merge a_file --into here
merge --into here
run --timeout 0
run --timeout nan
run --schedule cosin
run --schedule 'cosine[warmup=2]'
run --schedule 'cosine[warmup=long]'
run --schedule 'cosine[warm=0.1]'
run --schedule 'cosine[warmup=0.1'
run --framework tensorflow
run --dtype float16
run --precision float16
run --precision bfloat16
run --dtype float64 --precision bfloat16
run --lanes pmap
run --lanes ensemble
run --framework torch --lanes vmap
run --framework torch --lanes ensemble --opt adam,kron
run --device abacus
run --device gpu
run --framework torch --device gpu
run --results a_file
run --results a_file/below
run --results read_only
run --results full
show krn
claims warm-up
claims everything
claims --jobs 0
claims --timeout 0
claims --results a_file
claims --results read_only
claims --results full
claims ,
check --suite gaet
check --opt adma
check
check --baselines torn.tsv
check --suite classic --baselines "no where.tsv"
""".strip()
    .replace("LONG", "x" * 300)
    .splitlines()
)


@contextlib.contextmanager
def conditions() -> Iterator[None]:
    """No accelerator and no data folder, a folder that cannot be written and one that is full, whatever machine."""
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
        mock.patch.dict(os.environ),
        mock.patch("optbench.execute.devices.PLUGINS", ()),
        mock.patch("optbench.execute.devices.LIBRARIES", ()),
        mock.patch.object(Path, "mkdir", refuse),
        mock.patch.object(Path, "write_bytes", fill),
    ):
        os.environ.pop("OPTBENCH_DATA", None)
        yield


def said(case: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command, run here in this process."""
    from optbench import suite
    from optbench.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["optbench", *shlex.split(case)]
    with (
        mock.patch.dict(os.environ),  # a case's --data is not the next one's
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", argv),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    text = err.getvalue().replace(str(suite.folder()), "SUITES").replace(os.getcwd(), "HERE")
    return code, out.getvalue(), text


@contextlib.contextmanager
def somewhere(data: bool) -> Iterator[Path]:
    """A folder with the files that the cases speak of, as the working directory; those with data where asked for."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        for file, text in FILES.items():
            Path(file).write_text(text)
        if data:
            data_folders(Path(name))
        yield Path(name)


def written() -> str:
    """The golden file as the code of today would write it."""
    parts = []
    with somewhere(data=True), conditions():
        for case in CASES:
            parts.append(f"$ optbench {case}\n{said(case)[2]}")
    return "\n".join(parts)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(written())
