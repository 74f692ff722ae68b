"""How long a run will still take, on a clock by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from optbench.execute.pool import Event
from optbench.live import Countdown

PROGRAM: Any = SimpleNamespace(compiling=2.0, stepping=8.0, cost=10.0)


def heard(kind, worker=0, **facts) -> Event[Any]:
    return Event(kind, worker, PROGRAM, facts)


@pytest.fixture
def now():
    return [0.0]


def counting(now, programs=10, jobs=1, to_come=0.0):
    return Countdown([PROGRAM] * programs, jobs, to_come, clock=lambda: now[0])


def test_nothing_is_said_before_something_is_done(now):
    countdown = counting(now)
    assert countdown.left() is None
    countdown.follow(Event("ready", 0))
    assert countdown.left() is None


@pytest.mark.parametrize(("pace", "jobs"), [(0.3, 1), (1.0, 2), (4.0, 1)])
def test_a_machine_of_another_pace_than_planned_is_believed_early(now, pace, jobs):
    """The bar's own estimate followed the last half minute: it said 12 minutes, then 1, then 11 of a run of 6."""
    countdown = counting(now, 20, jobs)
    for done in range(1, 20):
        now[0] = 10 * pace * done / jobs
        countdown.follow(heard("done"))
        truly = 10 * pace * (20 - done) / jobs
        if done >= 2:
            assert countdown.left() == pytest.approx(truly, rel=0.8 if done < 5 else 0.4)


def test_what_a_later_stage_takes_is_left_too(now):
    countdown = counting(now, to_come=30.0)
    for done in range(1, 11):
        now[0] = 10.0 * done
        countdown.follow(heard("done"))
    assert countdown.left() == pytest.approx(30, rel=0.01)


def test_one_odd_program_does_not_swing_it(now):
    """After a fifth of a run, a program that takes five times as long moves the estimate by less than a half."""
    countdown = counting(now, 50)
    for done in range(10):
        now[0] = 10.0 * (done + 1)
        countdown.follow(heard("done"))
    before = countdown.left() or 0.0
    now[0] += 50
    countdown.follow(heard("done"))
    assert before < (countdown.left() or 0.0) < 1.5 * before


def test_steps_of_running_programs_count_and_the_time_between_events_too(now):
    countdown = counting(now, 4, jobs=2)
    now[0] = 2
    countdown.follow(heard("compiled"))
    countdown.follow(heard("compiled", worker=1))
    assert countdown.done == 4
    now[0] = 6
    countdown.follow(heard("progress", steps=500, of=1000))
    countdown.follow(heard("progress", worker=1, steps=250, of=1000))
    assert countdown.done == 2 + 4 + 2 + 2
    left = [countdown.left() or 0.0]
    for seconds in (1, 1000):
        now[0] += seconds
        left.append(countdown.left() or 0.0)
    assert left[0] - 1 < left[1] < left[0]
    assert 0 <= left[2] < left[1]
    countdown.follow(heard("done"))
    countdown.follow(heard("failed", worker=1))
    assert countdown.done == 20


def test_a_program_that_is_cut_in_two_compiles_once_more(now):
    countdown = counting(now, 1)
    countdown.follow(heard("compiled"))
    countdown.follow(heard("halved", into=2))
    assert (countdown.done, countdown.cost) == (0, 12)
