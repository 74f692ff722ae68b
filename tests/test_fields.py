"""Names, hyperparameters, ranges and ids: text is parsed to what it was printed from."""

import dataclasses
import itertools
import math
import pickle

import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from optbench import optimizers, tasks
from optbench.cell import Cell, Schedule
from optbench.fields import Bounds, UserError, canonical, digest, grid, nearest, split_brackets
from optbench.optimizer import Optimizer
from optbench.task import Task

settings.register_profile("optbench", max_examples=25, deadline=None)
settings.load_profile("optbench")

OPTIMIZERS = tuple(optimizers.names().values())
TASKS = tuple(tasks.names().values())


def values(spec: dataclasses.Field) -> st.SearchStrategy:
    """Values that a field may take, from what it declares of itself."""
    if spec.name == "dataset":
        return st.just(spec.default)  # others need files that are not here
    if spec.metadata.get("choices"):
        return st.sampled_from(spec.metadata["choices"])
    declared, bounds = str(spec.type), spec.metadata.get("bounds")
    if bounds is None:
        return st.just(spec.default)
    low, high = (float(part) for part in bounds.text[1:-1].split(","))
    low, high = max(low, -1e6), min(high, 1e6)
    if "int" in declared:
        numbers = st.integers(math.ceil(low), math.floor(high))
    else:
        numbers = st.floats(low, high, exclude_min=bounds.text[0] == "(" and low > -1e6)
    numbers = numbers.filter(bounds.holds)
    return st.none() | numbers if "None" in declared else numbers


def with_changes(thing, changes):
    """The changed thing; refused combinations are no examples."""
    try:
        thing = thing.replace(**changes)
        if isinstance(thing, Task):
            thing.data_hash()
    except UserError:
        reject()
    return thing


def changed(things: tuple) -> st.SearchStrategy:
    """A named thing with any of its fields changed."""

    def of(thing):
        fields = {f.name: values(f) for f in dataclasses.fields(thing)}
        return st.fixed_dictionaries({}, optional=fields).map(lambda changes: with_changes(thing, changes))

    return st.sampled_from(things).flatmap(of)


fractions = st.floats(0, 1)
schedules = st.builds(Schedule, st.sampled_from(Schedule.SHAPES), fractions, fractions)
cells = st.builds(
    Cell,
    changed(TASKS),
    changed(OPTIMIZERS),
    schedules,
    st.sampled_from(("jax", "torch")),
    st.sampled_from(("float32", "float64")),
    st.integers(0, 2**31),
    st.integers(1, 10**6),
)


@given(cells)
def test_a_cell_survives_json_with_its_id(cell):
    again = pickle.loads(pickle.dumps(cell))
    assert again == cell
    assert again.id() == cell.id()
    assert again.program_key() == cell.program_key()


@given(cells, cells)
def test_ids_are_equal_exactly_where_cells_are(one, other):
    assert (one.id() == other.id()) == (one == other)


@given(cells, st.data())
def test_an_id_changes_with_every_field(cell, data):
    changes = {
        "schedule": Schedule("constant" if cell.schedule.shape != "constant" else "wsd", 0.5),
        "framework": "torch" if cell.framework == "jax" else "jax",
        "dtype": "float64" if cell.dtype == "float32" else "float32",
        "seed": cell.seed + 1,
        "steps": cell.steps + 1,
    }
    others = [dataclasses.replace(cell, **{name: value}) for name, value in changes.items()]
    for role in ("task", "optimizer"):
        thing = getattr(cell, role)
        for spec in dataclasses.fields(thing):
            value = data.draw(values(spec))
            if value != getattr(thing, spec.name):
                others.append(dataclasses.replace(cell, **{role: with_changes(thing, {spec.name: value})}))
    ids = [cell.id(), *(other.id() for other in others)]
    assert len(set(ids)) == len(set([cell, *others]))


@given(changed(OPTIMIZERS))
def test_an_optimizer_is_what_its_label_says(optimizer):
    swept = optimizer.swept()
    parsed = optimizers.parse(optimizer.label())
    assert (parsed.replace(**{swept.name: getattr(optimizer, swept.name)}) if swept else parsed) == optimizer


@given(changed(TASKS))
def test_a_task_is_what_its_label_says(task):
    assert tasks.parse(task.label()) == task


@given(schedules, st.integers(1, 300))
def test_the_factors_of_a_schedule_lie_in_0_1(schedule, steps):
    factors = schedule.factors(steps)
    assert factors.shape == (steps,)
    assert 0 <= factors.min() <= factors.max() <= 1


@given(st.sampled_from(OPTIMIZERS), st.integers(2, 30))
def test_every_grid_is_equally_wide(optimizer, count):
    swept = optimizer.swept()
    if swept is None:
        assert optimizer.trials(count) == [optimizer]
        return
    numbers = [getattr(trial, swept.name) for trial in optimizer.trials(count)]
    assert len(set(numbers)) == count
    assert numbers == sorted(numbers)
    assert math.log10(numbers[-1] / numbers[0]) == pytest.approx(4, abs=0.01)
    steps = [math.log10(b / a) for a, b in itertools.pairwise(numbers)]
    assert steps == pytest.approx([4 / (count - 1)] * (count - 1), abs=0.01)


def test_a_grid_of_one_lies_in_the_middle():
    assert grid(1e-4, 1.0, 1) == [0.01]


@pytest.mark.parametrize("thing", [*OPTIMIZERS, *TASKS], ids=lambda thing: thing.label())
def test_every_field_says_what_it_is(thing: Optimizer | Task):
    for spec in dataclasses.fields(thing):
        assert spec.metadata["doc"], spec.name
        if spec.name not in ("dataset", "aux"):  # a file's name, a method's
            assert spec.metadata["bounds"] or spec.metadata["choices"], f"{spec.name} takes anything"


def test_equal_numbers_are_one_thing():
    kron, quadratic = optimizers.names()["kron"], tasks.names()["quadratic"]
    for pair in (
        (kron.replace(b1=0), kron.replace(b1=0.0)),
        (kron.replace(weight_decay=-0.0), kron),
        (kron.replace(max_size_triangular=8192.0), kron),
        (kron.replace(momentum_into_precond_update=1), kron),
        (quadratic.replace(condition=100), quadratic),
        (Schedule("cosine", 0), Schedule("cosine", 0.0)),
    ):
        specs = [thing.spec() if hasattr(thing, "spec") else dataclasses.asdict(thing) for thing in pair]
        assert len({*map(repr, pair)}) == len({*map(digest, specs)}) == 1


@given(
    st.sampled_from(["int", "float", "bool", "str", "int | None"]),
    st.none() | st.booleans() | st.integers() | st.text(),
)
def test_a_canonical_value_stays_as_it_is(declared, value):
    once = canonical(declared, value)
    assert once == value
    assert repr(canonical(declared, once)) == repr(once)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [("[0, 1)", [0, 0.5], [1, -0.1, math.nan]), ("(0, inf)", [1e-300, 1e300], [0, math.inf])],
)
def test_bounds(text, inside, outside):
    assert all(Bounds(text).holds(value) for value in inside)
    assert not any(Bounds(text).holds(value) for value in outside)


@given(st.lists(st.text("ab=.1", min_size=1), min_size=1), st.lists(st.text("cd,=", max_size=5), min_size=1))
def test_commas_inside_brackets_do_not_split(names, insides):
    parts = [f"{name}[{inside}]" for name, inside in zip(names, insides, strict=False)]
    assert split_brackets(",".join(parts)) == parts


NEXT = ("See: optbench", "field=value", "Write module:name", "Install it")


@example(":")
@example("0:0")
@given(st.text(max_size=12))
def test_any_text_is_something_or_a_message(text):
    """Otherwise the message says what to do next."""
    for parse in (optimizers.parse, tasks.parse):
        for full in (text, f"kron[{text}]", f"quadratic[dim={text}]"):
            try:
                parse(full)
            except UserError as error:
                assert any(words in str(error) for words in NEXT), str(error)  # noqa: PT017


def test_nearest_names_the_near_ones_or_all():
    assert nearest("cosin", ("cosine", "wsd")) == "Did you mean cosine?"
    assert nearest("zzz", ("cosine", "wsd")) == "Known: cosine, wsd."
