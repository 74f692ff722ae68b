"""What may be asked of a run: the fields of `optbench run`, checked before anything heavy is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from optbench.cell import DTYPES, PRECISIONS, Cell
from optbench.fields import UserError, nearest, split_brackets
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
    """What to run; the fields are those of `optbench run`, None meaning what the suite says."""

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
    """Evaluated beside the tasks' own metrics: grad_norm, param_norm, sharpness or mymodule:function."""
    tuning: Text = None
    """How trials are chosen: grid (of learning rates), random or quasi (of all that an optimizer searches)."""
    trials: Number = None
    """How many trials every optimizer gets."""
    fresh: bool = False
    """Report winners, and untuned defaults, with seeds that chose nothing; random and quasi always do."""
    schedule: Text = None
    """Of the learning rate: constant, cosine, wsd or linear, or 'cosine[warmup=0.1]'."""
    framework: Text = None
    """jax or torch."""
    dtype: Text = None
    """float32 or float64."""
    precision: Text = None
    """Of float32 matrix products on an accelerator: float32, tensorfloat32 or bfloat16."""
    seeds: Number = None
    """How many seeds, from 0."""
    steps: Number = None
    """Steps of every task, in place of its own horizon."""
    data: Text = None
    """The folder with data that does not come with the package (CIFAR-10, MNIST, text); OPTBENCH_DATA unless said."""
    device: str = "auto"
    """auto, cpu, gpu or tpu."""
    jobs: Number = None
    """Worker processes, one core or one accelerator each; all of them unless said."""
    results: str = "results"
    """The folder that results are kept in."""
    again: bool = False
    """Compute what is stored once more."""
    dry_run: bool = False
    """Say what would run, how long it would take and in how much memory, and run nothing."""
    vet: bool = True
    """Check optimizers and tasks of your own first, once for each version of their code."""
    timeout: float = 600.0
    """Seconds without a sign of life after which a program is ended."""
    lanes: Text = None
    """How lanes run in place of the plan's choice: vmap, map or loop in jax, eager, ensemble or compiled in torch."""

    def cells(self) -> list[Cell]:
        """The cells that were asked for; of a run in stages, those of the first."""
        return self.resolve().cells(self.rates)

    @property
    def rates(self) -> list[float] | None:
        """The learning rates in place of the equal grid."""
        return None if self.lr is None else learning_rates(self.lr)

    def resolve(self) -> Suite:
        """The suite with everything that was asked for put in its place; UserError if it cannot be."""
        # Imported here, so that `optbench --help` need not build a catalogue.
        from optbench import catalogue, plan
        from optbench.tasks.data import folder

        if self.data is not None:
            folder.use(self.data)
        suite = catalogue.suite(self.suite)
        check_numbers(self.timeout, seeds=self.seeds, trials=self.trials, steps=self.steps, jobs=self.jobs)
        check_choice("tuning", self.tuning, RULESETS)
        check_choice("framework", self.framework, FRAMEWORKS)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("device", self.device, DEVICES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("lanes", self.lanes, [way for ways in plan.MODES.values() for way in ways])
        changes: dict[str, Any] = {
            "optimizers": parsed("optimizer", self.opt, catalogue.optimizer),
            "tasks": parsed("task", self.task, catalogue.task),
            "metrics": parsed("metric", self.metrics, catalogue.metric),
            "schedule": None if self.schedule is None else catalogue.schedule(self.schedule),
            "framework": self.framework,
            "dtype": self.dtype,
            "precision": self.precision,
            "seeds": self.seeds,
            "steps": self.steps,
            "tuning": self.tuning,
            "trials": self.trials,
            "fresh": self.fresh or None,
        }
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
            check_lanes(self.lanes, suite.framework, plan.MODES, suite.optimizers)
        for task in suite.tasks:
            task.data_hash()  # data that is not there or torn is found before anything is run or written
        if self.lr is not None and (suite.staged or self.trials is not None):
            raise UserError(
                "--lr gives the trials of a plain run itself. Leave it out, or --tuning, --trials and --fresh."
            )
        return suite


def check_runs(suite: Suite, task: Task) -> None:
    """Refuse a task that is not written in the framework."""
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
    """Refuse an optimizer that is not in the framework, or whose two versions are not meant to agree."""
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
    """A value in brackets for the hyperparameter that the grid moves would be overwritten without a word."""
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
    """Refuse a way of running lanes that the framework does not have, or an optimizer cannot go."""
    own = ways[framework]
    if lanes not in own:
        other = next(name for name, its in ways.items() if lanes in its)
        raise UserError(
            f"--lanes {lanes} is not a way of {framework}, whose lanes run as {', '.join(own[:-1])} or {own[-1]}. "
            f"Take one of these, or: --framework {other}"
        )
    for optimizer in chosen:
        if lanes == "ensemble" and not optimizer.elementwise:
            raise UserError(
                f"--lanes ensemble stacks the lanes, and {optimizer.label()} is not known to move each number by "
                "the history of its own gradient alone. Leave --lanes out, or that optimizer."
            )


def check_numbers(timeout: float, **counts: int | None) -> None:
    """Refuse what is not a count from 1, or not a time."""
    for name, value in counts.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(f"--{name} {value!r} is not a number of {name}; give a whole number from 1.")
    if not isinstance(timeout, int | float) or not timeout > 0:
        raise UserError(f"--timeout {timeout!r} is not a time; give seconds above 0.")


def check_choice(name: str, value: str | None, allowed: Sequence[str]) -> None:
    """Refuse what is not among the allowed."""
    if value is not None and value not in allowed:
        raise UserError(f"--{name} {value!r} is not known. {nearest(value, allowed)}")


def parsed(kind: str, texts: Sequence[Any] | None, parse: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """The things that were named, commas outside brackets separating them, or given as they are."""
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
    """The numbers of `--lr`."""
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
