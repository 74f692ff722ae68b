"""Does an optimizer stand what users do with one? The checks of `optbench vet --full`.

A check is a function `check_<name>(subject)` in a file `<framework>_<group>.py` here, and needs no list: `listed` reads
the files. It returns a sentence where it holds, asserts one that names the smallest input where it does not, and raises
`Inapplicable` with the reason where it has no meaning. Each check is a job of a worker, which is killed when it is
silent: a crash or a hang is a finding too.
"""

from __future__ import annotations

import functools
import importlib
import json
import linecache
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from optbench.environment import compile_quickly
from optbench.fields import UserError, nearest
from optbench.optimizer import Optimizer
from optbench.protocol import FRAMEWORKS

if TYPE_CHECKING:
    from optbench.execute.vet import Vetting

PATIENT = 60.0
"""Seconds without an answer after which a check is stopped."""
DISTRIBUTED = {"sharding": 150.0, "checkpoints": 100.0}
"""Groups that run on several processes or devices, and the seconds after which these are stopped."""
BOTH = {"parity": FRAMEWORKS}
"""Groups that need an optimizer in both frameworks."""


class Inapplicable(Exception):
    """Why a check has no meaning for an optimizer, as a sentence."""


def assume(holds: bool, otherwise: str) -> None:
    """What a check needs to have a meaning, and why it has none otherwise."""
    if not holds:
        raise Inapplicable(otherwise)


class Check(NamedTuple):
    """Where a check is: `check_<name>` of `<framework>_<group>.py`."""

    framework: str
    group: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.group}.{self.name}"


@functools.cache
def listed() -> tuple[Check, ...]:
    """Every check, in the order of files and of lines."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*_*.py")):
        framework, _, group = path.stem.partition("_")
        names = re.findall(r"^(?:def )?check_(\w+)(?:\(| = )", path.read_text(), re.MULTILINE)
        found += [Check(framework, group, name) for name in names]
    return tuple(found)


def chosen(only: Sequence[str] = ()) -> list[Check]:
    """The checks of groups (`use`) or of names (`use.pickle`); all of them unless some are asked for."""
    known = {each.group for each in listed()} | {each.key for each in listed()}
    only = [word for words in only for word in words.split(",")]
    for word in only:
        if word not in known:
            raise UserError(f"--only {word!r} is not a check or a group of checks. {nearest(word, known)}")
    return [each for each in listed() if not only or each.group in only or each.key in only]


def findings(
    things: Sequence[Optimizer], only: Sequence[str], frameworks: Sequence[str], workers: int
) -> Iterator[tuple[Vetting, list[Any]]]:
    """Each check of each optimizer as it ends: its name, whether it holds (None: it does not apply), and why.

    Checks on several processes run on one worker, whose processes serve all of them.
    """
    from optbench.execute.vet import Vetting, reports

    known = [each for each in chosen(only) if each.framework in frameworks]
    for apart in (False, True):
        some = [each for each in known if (each.group in DISTRIBUTED) == apart]
        jobs = [
            Vetting(thing, check.framework, check.key)
            for thing in things
            for check in some
            if {check.framework, *BOTH.get(check.group, ())} <= {*thing.frameworks()}
        ]
        patience = max([PATIENT, *(DISTRIBUTED.get(each.group, 0.0) for each in some)])
        for job, report in reports(jobs, 1 if apart else workers, patience):
            yield job, report["findings"][0]


def in_worker(packed: Mapping[str, Any], framework: str, check: str) -> dict[str, Any]:
    """What one check, by its key, finds about a packed optimizer, in the form of `testing.in_worker`."""
    asked = Check(framework, *check.split("."))
    if framework == "jax":  # read when the first array is made
        compile_quickly()
        if asked.group in DISTRIBUTED:
            import jax

            jax.config.update("jax_num_cpu_devices", 8)
    return {"findings": [[check, *judge(asked, subject(json.dumps(packed), framework))]]}


@functools.lru_cache(maxsize=2)
def subject(packed: str, framework: str) -> Any:
    """What is checked; kept, so that the checks of one optimizer share what was compiled."""
    from optbench import origin

    made = importlib.import_module(f"optbench.conformance.{framework}")
    return made.Subject(origin.unpack(json.loads(packed)))


def judge(check: Check, subject: Any) -> tuple[bool | None, str]:
    """Whether a check holds (None: it does not apply), and why."""
    module = importlib.import_module(f"optbench.conformance.{check.framework}_{check.group}")
    try:
        return True, getattr(module, f"check_{check.name}")(subject)
    except Inapplicable as reason:
        return None, str(reason)
    except AssertionError as fault:
        return False, str(fault) or "It fails without a sentence."
    except Exception as error:
        from optbench.execute.worker import reason

        return (None, f"It is refused: {error}") if is_refusal(error) else (False, f"{reason(error)}.")


def is_refusal(error: BaseException) -> bool:
    """Whether code of an optimizer raises an error itself, with a sentence; what breaks inside a framework is none."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()
    framework = re.search(r"/(jax|jaxlib|numpy|torch(?!/optim))/", last.filename)
    return line.startswith("raise") and not framework and len(str(error).split()) > 3
