"""The options of a run: the fields of `optbench run`, checked before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from optbench.cell import DTYPES, PRECISIONS, Cell
from optbench.fields import UserError, check_choice, is_own, split_brackets
from optbench.optimizer import Optimizer
from optbench.protocol import FRAMEWORKS, UNWRITTEN, installed
from optbench.tuning import RULESETS

if TYPE_CHECKING:
    from optbench.suite import Suite
    from optbench.task import Task

CHOICES: dict[str, Sequence[str]] = {
    "tuning": RULESETS,
    "framework": FRAMEWORKS,
    "dtype": DTYPES,
    "device": ("auto", "cpu", "gpu", "tpu"),
    "precision": PRECISIONS,
    "executor": ("processes", "ray"),
}
SUITE_FIELDS = ("framework", "dtype", "precision", "seeds", "tuning", "trials")
"""Fields that replace those of the suite as they are."""


# Spelled with Union, and None first: tyro then checks the defaults without typeguard, whose import costs as much
# CPU as the rest of `optbench --help`.
Texts = Union[None, tuple[str, ...]]  # noqa: UP007
Text = Union[None, str]  # noqa: UP007
Number = Union[None, int]  # noqa: UP007


@dataclass(frozen=True)
class Request:
    """What to run; the fields are those of `optbench run`, None meaning the suite's value."""

    suite: str = "quickstart"
    """A suite's name (see `optbench list suites`), or a Python file that defines one."""
    opt: Texts = None
    """Optimizers: kron,adam or 'kron[b1=0.95]' (with quotes: brackets mean something to a shell), or of another
    package: optax:yogi, torch:NAdam, mypackage.mymodule:make."""
    task: Texts = None
    """Tasks in place of the suite's: mlp or 'quadratic[dim=50,condition=1e3]'."""
    axis: Texts = None
    """Only these axes of a suite that has some: horizon, batch, width or law of suite scaling."""
    lr: Texts = None
    """Learning rates in place of the equal grid: 0.1,0.01"""
    metrics: Texts = None
    """Evaluated beside the tasks' own metrics: grad_norm, param_norm, sharpness or mymodule:function."""
    tuning: Text = None
    """How trials are drawn: grid (of learning rates), random or quasi (over all searched hyperparameters)."""
    trials: Number = None
    """Number of trials of every optimizer."""
    fresh: bool = False
    """Report winners and defaults on fresh seeds (always for random and quasi trials, and where the suite says so)."""
    schedule: Texts = None
    """Of the learning rate: constant, cosine, wsd, linear, 'cosine[warmup=0.1]'; or several."""
    framework: Text = None
    """jax or torch."""
    dtype: Text = None
    """float32 or float64."""
    precision: Text = None
    """Of float32 matrix products on an accelerator: float32, tensorfloat32 or bfloat16."""
    seeds: Number = None
    """Number of seeds."""
    steps: Texts = None
    """Steps of every task, in place of its own horizon; or several: 250,500,1000."""
    data: Text = None
    """The folder with data that does not come with the package (CIFAR-10, MNIST, text); default: OPTBENCH_DATA."""
    device: str = "auto"
    """auto, cpu, gpu or tpu."""
    jobs: Number = None
    """Worker processes, one core or one accelerator each; default: all."""
    executor: str = "processes"
    """processes of this machine, or ray: tasks of a Ray cluster (docs/clusters.md)."""
    address: Text = None
    """Of the Ray cluster, such as auto; default: RAY_ADDRESS, else one on this machine."""
    results: str = "results"
    """The results folder."""
    shard: Text = None
    """Run only this part of the run, 1/8 to 8/8; `optbench merge` joins the results of all (docs/clusters.md)."""
    again: bool = False
    """Recompute stored results."""
    dry_run: bool = False
    """Print what would run, how long it would take and in how much memory, and run nothing."""
    vet: bool = True
    """Check optimizers and tasks of your own first, once for each version of their code."""
    paranoid: bool = False
    """Run every cell twice and compare the bits; else a few, in at most 2 % of the time."""
    timeout: float = 600.0
    """Seconds without a message after which a program is killed."""
    lanes: Text = None
    """How lanes run in place of the plan's choice: vmap, map or loop in jax, eager, ensemble or compiled in torch."""

    json: bool = False
    """Print one JSON object on standard output (docs/json.md), the rest on standard error."""

    def cells(self) -> list[Cell]:
        """The requested cells; of a run in stages, those of the first."""
        return self.resolve().cells(self.rates)

    @property
    def part(self) -> tuple[int, int]:
        """The number of a shard, from 0, and how many there are; UserError if it is neither."""
        number, _, count = ("1/1" if self.shard is None else self.shard).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UserError(f"--shard must be i/n with i from 1 to n, such as 2/8; got {self.shard!r}.")
        return int(number) - 1, int(count)

    def along(self, suite: Suite) -> dict[str, Any]:
        """The tasks of the requested axes, if any."""
        axes = parsed("axis", self.axis, suite.axis)
        if axes is not None and self.task is not None:
            raise UserError("--axis and --task both choose the tasks. Give one of them.")
        return {} if axes is None else {"tasks": tuple(itertools.chain(*axes))}

    @property
    def rates(self) -> list[float] | None:
        return None if self.lr is None else learning_rates(self.lr)

    def resolve(self) -> Suite:
        """The suite with the requested changes; UserError if they are invalid."""
        # Imported here, so that `optbench --help` need not build a catalogue.
        from optbench import catalogue, plan
        from optbench.tasks.data import folder

        if self.data is not None:
            folder.use(self.data)
        suite, _ = catalogue.suite(self.suite), self.part
        check_numbers(self.timeout, seeds=self.seeds, trials=self.trials, jobs=self.jobs)
        modes = [mode for modes in plan.MODES.values() for mode in modes]
        for name, allowed in {**CHOICES, "lanes": modes}.items():
            check_choice(f"--{name}", getattr(self, name), allowed)
        if self.address is not None and self.executor != "ray":
            raise UserError("--address names a Ray cluster. Add --executor ray, or leave it out.")
        changes: dict[str, Any] = {
            "optimizers": parsed("optimizer", self.opt, catalogue.optimizer),
            "tasks": parsed("task", self.task, catalogue.task),
            **self.along(suite),
            "metrics": parsed("metric", self.metrics, catalogue.metric),
            "schedule": parsed("schedule", self.schedule, catalogue.schedule),
            "steps": parsed("number of steps", self.steps, whole),
            "fresh": self.fresh or None,
            **{name: getattr(self, name) for name in SUITE_FIELDS},
            "toy_trials": self.trials if suite.toy_trials else None,
        }
        if self.lr is not None and not self.fresh and suite.fresh:
            changes["fresh"] = False  # given rates are a run without stages
        suite = dataclasses.replace(suite, **{k: v for k, v in changes.items() if v is not None})
        if not installed([suite.framework]):
            here = installed(FRAMEWORKS)
            hint = f"Install it, or try: --framework {here[0]}" if here else "Install it."
            raise UserError(f"{suite.framework} is not installed. {hint}")
        for optimizer in suite.optimizers:
            refuse_fixed(optimizer)
            check_offered(suite, optimizer)
        for task in suite.tasks:
            check_offered(suite, task)
        if self.lanes is not None:
            check_lanes(self.lanes, suite, plan.MODES)
        for task in suite.tasks:
            try:  # missing or damaged data is an error before anything is run or written
                task.data_hash()
            except Exception as error:
                if not is_own(type(task)):
                    raise
                from optbench.execute.worker import reason

                raise UserError(f"task {task.label()}: {reason(error)}.") from error
        if self.lr is not None and (suite.staged or self.trials is not None):
            raise UserError(
                "--lr fixes the trials of a run without stages. Omit it, or --tuning, --trials and --fresh."
            )
        return suite


@dataclass(frozen=True)
class Shown:
    """Which stored rows `optbench report` and its like show; the fields are their options."""

    results: str = "results"
    """Results folder."""
    suite: str = "quickstart"
    """A suite's name, or a Python file that defines one."""
    opt: Texts = None
    """Only these optimizers: kron,adam or 'kron[b1=0.95]'."""
    task: Texts = None
    """Tasks in place of the suite's."""
    schedule: Text = None
    """Only this schedule: constant or 'cosine[warmup=0.1]'."""
    framework: Text = None
    """Only jax or torch."""
    dtype: Text = None
    """Only float32 or float64."""
    precision: Text = None
    """Only this precision of matrix products."""
    steps: Number = None
    """Only runs of this many steps."""
    device_kind: Text = None
    """Only this kind of device."""
    tuning: Text = None
    """Show results tuned by this ruleset: grid, random or quasi."""
    trials: Number = None
    """Number of trials of that run."""
    fresh: bool = False
    """Show winners of a grid on fresh seeds (`run --fresh`)."""
    older: bool = False
    """Also show rows of older code, under separate names."""


def whole(text: Any) -> int:
    try:
        value = int(text) if isinstance(text, str) else text
    except ValueError:
        raise UserError(f"--steps: {text!r} is not a whole number.") from None
    check_numbers(1.0, steps=value)
    return value


def check_offered(suite: Suite, thing: Optimizer | Task) -> None:
    offered = thing.frameworks()
    if suite.framework not in offered:
        other = UNWRITTEN[thing.kind]
        if offered:
            other = f"it is in {', '.join(offered)}. Try: --framework {offered[0]}"
        raise UserError(f"{thing.kind} {thing.label()} is not offered in {suite.framework}; {other}")


def refuse_fixed(optimizer: Optimizer) -> None:
    """A value in brackets for the swept hyperparameter would be overwritten silently."""
    swept = optimizer.swept()
    if swept is None or getattr(optimizer, swept.name) == swept.default:
        return
    value = getattr(optimizer, swept.name)
    raise UserError(
        f"{optimizer.name}[{swept.name}={value:g}] fixes what the suite sweeps. "
        f"Omit it, or give the values to sweep: --lr {value:g}"
    )


def check_lanes(mode: str, suite: Suite, modes: Mapping[str, Sequence[str]]) -> None:
    own = modes[suite.framework]
    if mode not in own:
        other = next(name for name, its_modes in modes.items() if mode in its_modes)
        raise UserError(
            f"{suite.framework} has no lane mode {mode!r}; it has {', '.join(own[:-1])} and {own[-1]}. "
            f"Use --lanes with one of these, or: --framework {other}"
        )
    for optimizer in suite.optimizers:
        if mode == "ensemble" and not optimizer.elementwise:
            raise UserError(
                f"{optimizer.label()} is not element-wise, so its lanes cannot be stacked. "
                "Omit --lanes ensemble, or that optimizer."
            )


def check_numbers(timeout: float, **counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(f"--{name} must be an integer of at least 1, got {value!r}.")
    if not isinstance(timeout, int | float) or not timeout > 0:
        raise UserError(f"--timeout must be a number of seconds above 0, got {timeout!r}.")


def parsed(kind: str, texts: Any, parse: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Objects as they are, or text parsed, split at the commas outside brackets."""
    if texts is None:
        return None
    texts = texts if isinstance(texts, list | tuple) else (texts,)
    parts = [part for text in texts for part in (split_brackets(text) if isinstance(text, str) else [text])]
    parsed: dict[Any, Any] = {}
    for part in (part for part in parts if part != ""):
        thing = parse(part)
        if thing in parsed:
            same = parsed[thing]
            twice = "was given twice" if part == same else f"is the same as {same!r}"
            raise UserError(f"{kind} {part!r} {twice}. Give each once.")
        parsed[thing] = part
    if not parsed:
        listed = f"; see: optbench list {kind}s" if kind in ("optimizer", "task", "metric") else ""
        raise UserError(f"no {kind} was given. Name at least one{listed}")
    return tuple(parsed)


def learning_rates(texts: Sequence[str | float]) -> list[float]:
    parts = [part.strip() for text in texts for part in str(text).split(",")]
    if not any(parts):
        raise UserError("--lr has no learning rate. Write --lr 0.1,0.01")
    rates = []
    for part in parts:
        try:
            rate = float(part)
        except ValueError:
            rate = float("nan")
        if not 0 < rate < float("inf"):
            raise UserError(f"--lr must be numbers above 0, such as --lr 0.1,0.01; got {part!r}")
        if rate in rates:
            raise UserError(f"--lr has {part} twice. Give each learning rate once.")
        rates.append(rate)
    return rates
