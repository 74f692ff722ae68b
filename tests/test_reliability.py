"""A sample of each check of `make reliability`: nothing is lost, nothing is wrong."""

import pytest

from tests.reliability import faults, files, inputs, schedules

SAMPLES = {
    faults.faults: 2, faults.real_faults: 2, schedules.schedules: 500, files.flipped_bytes: 100,
    files.spoilt_columns: 5, files.foreign_files: None, files.flipped_carries: 200, inputs.command_lines: 25,
    inputs.suite_files: 20, inputs.data_files: 6, files.flipped_caches: 20,
    inputs.spoilt_texts: None,
}  # fmt: skip


@pytest.mark.parametrize("check", SAMPLES, ids=lambda check: check.__name__)
def test_nothing_is_lost_and_nothing_is_wrong(check):
    tried = list(check(SAMPLES[check]))
    assert tried
    assert [case for outcome, case in tried if outcome in ("lost", "wrong")] == []
