"""What a user types or writes: command lines, brackets, suite files, data files, baselines, caches."""

from __future__ import annotations

import contextlib
import gzip
import random
import signal
import string
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from optbench.fields import UserError
from optbench.gate import fingerprint, trajectory
from tests import datafiles, messages
from tests.reliability import Outcomes, drawn

PATIENCE = 10
"""CPU seconds after which a sentence comes too late."""

SHARED = "--opt --task --suite --trials --steps --schedule --framework --dtype --results --tuning --precision"
COMMANDS = {
    "run --dry-run": f"{SHARED} --lr --seeds --data --device --jobs --timeout --lanes --metrics",
    "report": f"{SHARED} --out --compare --device-kind",
    "show x": "--json",
    "check --opt nothing_of_that_name": "--suite --baselines --baseline --against --junit --summary --jobs",
    "claims nothing_of_that_name": "--results --jobs --timeout --out",
    "try nothing_of_that_name": "--against --tasks --json --framework",
    "vet nothing_of_that_name": "--framework --only --junit",
}
"""Commands with their options; those that would compute begin with a name that is refused."""
VALUES = (
    "", "'", '"', "[", "kron[", "kron]", "kron[b1=]", "kron[=1]", "kron[b1=0.9,]", "kron[[b1=0.9]]", "0", "-1",
    "1e999", "nan", "99999999999999999999", "1" * 5000, "x" * 5000, "x" * 5000 + ".py", "/etc/passwd", "../..", ".",
    "/etc/passwd/x", "/", "/dev/null", "\x1b[31m", "é", "☃", "a\nb", "<script>", "$(touch ran)", "`touch ran`",
    "; touch ran", "%s%n", "{0}", "a:b", "a.py:b", ":", "builtins:exec", "x.py", "kron,kron", ",", "adam+",
    "adam+adam", "adam+cautious+" * 50, "quadratic[dim=99999999999999999999]", "True", "None", "adam", "jax", "mlp",
    "transformer[dataset=../../etc/passwd]",
)  # fmt: skip


def sentence(code: int, out: str, err: str) -> bool:
    """Whether a command was carried out, or refused in few words."""
    # 130: a file may raise what Ctrl-C raises.
    refused = code in (1, 2, 130) and len(err) > 0 and "Traceback" not in err
    return "Traceback" not in out and (code in (0, 1) or refused)


class Late(BaseException):
    """A command took too long."""


def said(command: str) -> str:
    """The outcome of one command in this process."""

    def late(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    try:
        code, out, err = messages.said(command)
    except (Exception, Late):
        return "wrong"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    if Path("ran").exists() or not sentence(code, out, err):
        return "wrong"
    return "refused" if code else "survived"


def command_lines(sample: int | None = None) -> Outcomes:
    """Commands with options and values that a hurried or a hostile user types; three hundred are all."""
    draw = random.Random(0)

    def quoted(value: str) -> str:
        return "'" + value.replace("'", "'\"'\"'") + "'"

    def line() -> str:
        words = [draw.choice([*COMMANDS])]
        options = COMMANDS[words[0]].split()
        for option in draw.sample(options, min(len(options), draw.randint(1, 2))):
            letters = "".join(draw.choices(string.printable[:95], k=draw.randint(1, 12)))
            words += [option, quoted(draw.choice([*VALUES, letters]))]
        return " ".join(words)

    with tempfile.TemporaryDirectory() as here, contextlib.chdir(here):
        for command in [line() for _ in range(sample or 300)]:
            yield said(command), command[:200]


HEAD = """from optbench import Suite
from optbench.tasks import parse as task
from optbench.optimizers import parse as opt
"""
FIELDS = {"name": "'mine'", "tasks": "(task('rosenbrock_2'),)", "optimizers": "(opt('adam'),)", "steps": "5"}
ODD = (
    "None", "3", "-1", "''", "'x' * 5000", "[]", "()", "object()", "float('nan')", "10**20", "True", "b'x'", "{1: 2}",
    "'a\\n\\x1b'",
)  # fmt: skip
RAISED = (
    "KeyboardInterrupt", "SystemExit(3)", "GeneratorExit", "BaseException('x')", "MemoryError", "RecursionError",
    "type('Own', (BaseException,), {})()", "UnicodeDecodeError('a', b'', 0, 1, 'b')", "StopIteration",
)  # fmt: skip


def suites(here: Path) -> Iterator[bytes]:
    """Suite files, each wrong in one way, or written by an odd editor."""
    good = HEAD + f"suite = Suite({', '.join(f'{k}={v}' for k, v in FIELDS.items())})\n"
    yield from (f"raise {error}\n".encode() for error in RAISED)
    names = [
        *FIELDS,
        "trials",
        "seeds",
        "schedule",
        "framework",
        "dtype",
        "twins",
        "precision",
        "tuning",
        "metrics",
        "fresh",
    ]
    for name in names:
        for value in ODD:
            given = {**FIELDS, name: value}
            yield (HEAD + f"suite = Suite({', '.join(f'{k}={v}' for k, v in given.items())})\n").encode()
    yield from (
        b"",
        b"\xef\xbb\xbf" + good.encode(),
        good.encode("utf-16"),
        b"\x00",
        b"suite = (",
        b"suite = 5",
        b"\xff",
    )
    yield (good + "def __getattr__(name): raise BaseException\n").encode()
    yield good.replace("\n", "\r\n").encode()


def suite_files(sample: int | None = None) -> Outcomes:
    """Each suite file, run and reported."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        for source in drawn(suites(Path(name)), sample):
            Path("suite.py").write_bytes(source)
            outcomes = {said("run --suite suite.py --dry-run"), said("report --suite suite.py")}
            yield (
                "wrong" if "wrong" in outcomes else "refused" if outcomes == {"refused"} else "survived",
                repr(source[-90:]),
            )


def damaged(path: Path, raw: bytes) -> Iterator[bytes]:
    """A data file cut, spoilt, packed as a bomb, or with a header that lies."""
    draw = random.Random(path.name)
    yield from (raw[:at] for at in (0, 1, 15, len(raw) // 2, len(raw) - 1))
    yield raw + b"\x00"
    for _ in range(6):
        bad = bytearray(raw)
        bad[draw.randrange(min(len(raw), 64))] ^= 1 << draw.randrange(8)
        yield bytes(bad)
    yield b"\x00\x00\x08\x03" + struct.pack(">3i", 2**31 - 1, 2**31 - 1, 2**31 - 1)
    yield b"\x00\x00\x08\x01" + struct.pack(">i", -1)
    yield b"cposix\nsystem\n(S'touch ran'\ntR."


def data_files(sample: int | None = None) -> Outcomes:
    """Data sets one file of which is damaged: refused in a sentence, or the same number of bytes of data as without."""
    sets: dict[str, tuple[Callable[..., Path], str]] = {
        "resnet[dataset=cifar10,batch=8]": (datafiles.cifar_binary, "data_batch_2.bin"),
        "resnet[dataset=cifar10,batch=8] ": (datafiles.cifar_python, "data_batch_2"),
        "resnet[dataset=mnist,batch=8]": (datafiles.mnist, "train-images-idx3-ubyte"),
        "resnet[dataset=mnist,batch=8] ": (datafiles.mnist, "t10k-labels-idx1-ubyte"),
    }
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        cases = []
        for number, (task, (write, file)) in enumerate(sets.items()):
            path = write(Path(f"set{number}")) / file
            raw = path.read_bytes()
            cases += [(task, number, path, raw, bad) for bad in damaged(path, raw)]
        packed = datafiles.mnist(Path("set9"), packed=True) / "train-labels-idx1-ubyte.gz"
        bomb = gzip.compress(b"\x00\x00\x08\x01" + struct.pack(">i", 40) + bytes(200_000_000), 9)
        cases.append(("resnet[dataset=mnist,batch=8]", 9, packed, packed.read_bytes(), bomb))
        for task, number, path, raw, bad in drawn(cases, sample):
            path.write_bytes(bad)
            begun = time.process_time()
            outcome = said(f"run --dry-run --opt adam --task '{task.strip()}' --data set{number}")
            late = time.process_time() - begun > PATIENCE / 2
            yield "wrong" if late else outcome, f"{path}: {bad[:20]!r}, {len(bad)} bytes"
            path.write_bytes(raw)


def spoilt_texts(sample: int | None = None) -> Outcomes:
    """Baselines that are no tables: refused in a sentence, or read as an empty one."""
    bad = (
        b"", b"\x00", b"task\tloss\n", b"a" * 200_000, b"\xff\xfe", b"{}", b"[]", b'{"rows": 3}', b"=cmd|' /C calc'!A0",
        b"#\n#\n", b"\"", b'{"rows": [{"layer": 1}]}', b"a\tb\tc\td\te\tf\n1\t2\t3\t4\t5\t6=x\n", b"[" * 100_000,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        cases = [(raw, read, file) for raw in bad for read, file in READERS]
        for raw, read, file in drawn(cases, sample):
            Path(file).write_bytes(raw)
            try:
                outcome = "survived" if read(Path(file)) == {} else "wrong"
            except UserError as error:
                outcome = "refused" if "\n" not in str(error) else "wrong"
            except Exception:
                outcome = "wrong"
            yield outcome, f"{file}: {raw[:30]!r}"


READERS = ((fingerprint.read, "mine.json"), (fingerprint.read, "mine.tsv"), (trajectory.read, "mine.tsv"))
