"""The options of `optbench run`, validated before anything heavy is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from optbench.cell import DTYPES, PRECISIONS, Cell
from optbench.fields import UserError, check_choice, split_brackets
from optbench.optimizer import Optimizer
from optbench.protocol import FRAMEWORKS
from optbench.tuning import RULESETS

if TYPE_CHECKING:
    from optbench.suite import Suite
    from optbench.task import Task

DEVICES = ("auto", "cpu", "gpu", "tpu")


# Spelled with Union, and None first: tyro then checks the defaults without typeguard, whose import costs as much
# CPU as the rest of `optbench --help`.
Texts = Union[None, tuple[str, ...]]  # noqa: UP007
Text = Union[None, str]  # noqa: UP007
Number = Union[None, int]  # noqa: UP007


@dataclass(frozen=True)
class Request:
    """What to run. None means the suite's own value."""

    suite: str = "quickstart"
    """A suite's name (see `optbench list suites`), or a Python file that defines one."""
    opt: Texts = None
    """Optimizers: kron,adam or 'kron[b1=0.95]' (with quotes: brackets mean something to a shell), or of another
    package: optax:yogi, torch:NAdam, mypackage.mymodule:make."""
    task: Texts = None
    """Tasks in place of the suite's: mlp or 'quadratic[dim=50,condition=1e3]'."""
    lr: Texts = None
    """Learning rates in place of the equal grid: 0.1,0.01"""
    metrics: Texts = None
    """Additional metrics: grad_norm, param_norm, sharpness or mymodule:function."""
    tuning: Text = None
    """How trials are chosen: grid (of learning rates), random or quasi (over all searched hyperparameters)."""
    trials: Number = None
    """Number of trials per optimizer."""
    fresh: bool = False
    """Re-run winners and defaults on fresh seeds (always on for random and quasi)."""
    schedule: Text = None
    """Learning-rate schedule: constant, cosine, wsd or linear, or 'cosine[warmup=0.1]'."""
    framework: Text = None
    """jax or torch."""
    dtype: Text = None
    """float32 or float64."""
    precision: Text = None
    """Precision of float32 matrix products on an accelerator: float32, tensorfloat32 or bfloat16."""
    seeds: Number = None
    """Number of seeds."""
    steps: Number = None
    """Number of steps, in place of each task's own."""
    data: Text = None
    """Folder with data that is not part of the package (CIFAR-10, MNIST, text); default: OPTBENCH_DATA."""
    device: str = "auto"
    """auto, cpu, gpu or tpu."""
    jobs: Number = None
    """Worker processes, one core or one accelerator each; default: all."""
    results: str = "results"
    """Results folder."""
    again: bool = False
    """Recompute what is stored."""
    dry_run: bool = False
    """Print the programs, their time and memory, and run nothing."""
    vet: bool = True
    """Check your own optimizers and tasks first, once per code version."""
    timeout: float = 600.0
    """Seconds without progress after which a program is stopped."""
    lanes: Text = None
    """How lanes run: vmap, map or loop in jax; eager, ensemble or compiled in torch; default: chosen by the plan."""

    json: bool = False
    """Print one JSON object on standard output (docs/json.md), the rest on standard error."""

    def cells(self) -> list[Cell]:
        return self.resolve().cells(self.rates)

    @property
    def rates(self) -> list[float] | None:
        return None if self.lr is None else learning_rates(self.lr)

    def resolve(self) -> Suite:
        """The suite with these options applied; UserError if one does not fit."""
        # Imported here, so that `optbench --help` need not build a catalogue.
        from optbench import catalogue, plan
        from optbench.tasks.data import folder

        if self.data is not None:
            folder.use(self.data)
        suite = catalogue.suite(self.suite)
        check_numbers(self.timeout, seeds=self.seeds, trials=self.trials, steps=self.steps, jobs=self.jobs)
        ways = [way for ways in plan.WAYS.values() for way in ways]
        choices = {"tuning": RULESETS, "framework": FRAMEWORKS, "dtype": DTYPES, "device": DEVICES}
        for name, allowed in (choices | {"precision": PRECISIONS, "lanes": ways}).items():
            check_choice(f"--{name}", getattr(self, name), allowed)
        changes: dict[str, Any] = {
            "optimizers": parsed("optimizer", self.opt, catalogue.optimizer),
            "tasks": parsed("task", self.task, catalogue.task),
            "metrics": parsed("metric", self.metrics, catalogue.metric),
            "schedule": None if self.schedule is None else catalogue.schedule(self.schedule),
            "fresh": self.fresh or None,
        }
        same = ("framework", "dtype", "precision", "seeds", "steps", "tuning", "trials")
        changes |= {name: getattr(self, name) for name in same}
        for name in ("framework", "lanes", "tuning", "fresh"):
            if suite.twins is not None and getattr(self, name):
                raise UserError(
                    f"suite {suite.name} compares the frameworks and runs in both; leave --{name} out."
                )
        suite = dataclasses.replace(suite, **{k: v for k, v in changes.items() if v is not None})
        for optimizer in suite.optimizers:
            refuse_fixed(optimizer)
            check_offered(suite, optimizer)
        for task in suite.tasks:
            check_runs(suite, task)
        if self.lanes is not None:
            check_lanes(self.lanes, suite.framework, plan.WAYS, suite.optimizers)
        for task in suite.tasks:
            task.data_hash()  # data that is not there or torn is found before anything is run or written
        if self.lr is not None and (suite.staged or self.trials is not None):
            raise UserError(
                "--lr gives the trials of a plain run itself. Leave it out, or --tuning, --trials and --fresh."
            )
        return suite


def check_runs(suite: Suite, task: Task) -> None:
    offered = task.frameworks()
    for framework in FRAMEWORKS if suite.twins is not None else (suite.framework,):
        if framework not in offered:
            raise UserError(
                f"task {task.label()} is not offered in {framework}; "
                + (
                    f"it is in {', '.join(offered)}. Try: --framework {offered[0]}"
                    if offered
                    else "it has no loss. Write loss(self, params, batch), or jax(self), or torch(self)."
                )
            )


def check_offered(suite: Suite, optimizer: Optimizer) -> None:
    offered = optimizer.frameworks()
    if suite.twins is None and suite.framework not in offered:
        raise UserError(
            f"optimizer {optimizer.label()} is not offered in {suite.framework}; "
            f"it is in {', '.join(offered)}. Try: --framework {offered[0]}"
        )
    if suite.twins is not None and len(offered) < len(FRAMEWORKS):
        raise UserError(
            f"suite {suite.name} compares the frameworks, and optimizer {optimizer.label()} is only in "
            f"{offered[0]}. See: optbench list optimizers"
        )
    if suite.twins is not None and not optimizer.parity:
        raise UserError(
            f"suite {suite.name} compares the frameworks, and the two versions of {optimizer.label()} differ "
            f"by design. See: optbench show {optimizer.name}"
        )


def refuse_fixed(optimizer: Optimizer) -> None:
    """Refuse a value in brackets for the hyperparameter that the grid sweeps: it would be overwritten silently."""
    swept = optimizer.swept()
    if swept is None or getattr(optimizer, swept.name) == swept.default:
        return
    value = getattr(optimizer, swept.name)
    raise UserError(
        f"{optimizer.name}[{swept.name}={value:g}] fixes what the suite sweeps. "
        f"Leave it out, or give the values to sweep: --lr {value:g}"
    )


def check_lanes(
    lanes: str, framework: str, ways: Mapping[str, Sequence[str]], chosen: Sequence[Optimizer]
) -> None:
    """Refuse a lane mode that the framework does not have or an optimizer does not support."""
    own = ways[framework]
    if lanes not in own:
        other = next(name for name, its in ways.items() if lanes in its)
        raise UserError(
            f"{framework} has no lane mode {lanes!r}; it has {', '.join(own[:-1])} and {own[-1]}. "
            f"Use one of these, or: --framework {other}"
        )
    for optimizer in chosen:
        if lanes == "ensemble" and not optimizer.elementwise:
            raise UserError(
                f"--lanes ensemble stacks the lanes of element-wise optimizers, and {optimizer.label()} is not known "
                "to be element-wise. Leave out --lanes or that optimizer."
            )


def check_numbers(timeout: float, **counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(f"--{name} must be a whole number of at least 1, got {value!r}.")
    if not isinstance(timeout, int | float) or not timeout > 0:
        raise UserError(f"--timeout must be seconds above 0, got {timeout!r}.")


def parsed(kind: str, texts: Sequence[Any] | None, parse: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """The things of a list: text is split at commas outside brackets, objects are taken as they are."""
    if texts is None:
        return None
    parts = [part for text in texts for part in (split_brackets(text) if isinstance(text, str) else [text])]
    parts = [part for part in parts if not (isinstance(part, str) and not part)]
    if not parts:
        raise UserError(f"no {kind} was given. Name at least one; see: optbench list {kind}s")
    things: dict[Any, str] = {}
    for part in parts:
        thing = parse(part)
        if thing in things:
            twice = (
                f"{part!r} is the same as {things[thing]!r}"
                if part != things[thing]
                else f"{part!r} was given twice"
            )
            raise UserError(f"{kind} {twice}. Give each once.")
        things[thing] = part
    return tuple(things)


def learning_rates(texts: Sequence[str | float]) -> list[float]:
    parts = [part.strip() for text in texts for part in str(text).split(",")]
    if not any(parts):
        raise UserError("--lr was given no learning rate. Write --lr 0.1,0.01")
    rates = []
    for part in parts:
        try:
            rate = float(part)
        except ValueError:
            rate = float("nan")
        if not 0 < rate < float("inf"):
            raise UserError(
                f"--lr {part!r} is not a learning rate; give numbers above 0, such as --lr 0.1,0.01"
            )
        if rate in rates:
            raise UserError(f"--lr names {part} twice. Give each learning rate once.")
        rates.append(rate)
    return rates
