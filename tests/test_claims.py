"""Claims: rules on made-up measurements, the ledger, the command line through a process, the report's section."""

import dataclasses
import functools
import inspect
import json
import math
import re
import resource
from pathlib import Path

import pytest

from optbench.claim import Measurement, Verdict, documents, every, registry, rules, select
from optbench.claim.command import COLUMNS, claims_in_terminal
from optbench.claim.rules import Registered, digest_of_rule, registered
from optbench.claim.session import Ledger
from optbench.claims import esgd_m
from optbench.fields import UserError
from tests import process
from tests.made_up import CASES, FACTS, make_up


@pytest.mark.parametrize("asked", every(), ids=lambda asked: asked.name)
def test_a_rule_finds_the_verdict_in_made_up_numbers(asked):
    for numbers, verdict in CASES[asked.name]:
        ruling = asked.ruling(json.loads(json.dumps(numbers)))
        assert ruling.verdict == verdict, f"{ruling} from {numbers}"
        assert ruling.measured
        assert re.search(r"[.)]$", ruling.why), ruling.why
        assert len(ruling.why) <= 420, ruling.why


def test_every_claim_has_made_up_numbers_and_every_verdict_is_reached():
    assert sorted(CASES) == sorted(asked.name for asked in every())
    reached = {name: {verdict for _, verdict in cases} for name, cases in CASES.items()}
    assert set.union(*reached.values()) == set(Verdict)
    assert not [name for name, verdicts in reached.items() if len(verdicts) == 1], "a rule that cannot fail"


def test_claims_are_written_as_the_table_needs_them():
    names = [asked.name for asked in every()]
    assert len(set(names)) == len(names)
    for asked in every():
        claim = asked
        assert len(claim.short) <= 21, claim.name
        assert len(claim.says) <= 85, "quote a short phrase"
        assert claim.statement.endswith("."), asked.name
        assert "\n" not in claim.statement
        assert claim.documented


def test_every_measurement_is_a_function_of_its_inputs():
    for asked in every():
        measurement = asked.measurement
        given = {*measurement.inputs, *(["frames"] if measurement.runs else [])}
        assert set(inspect.signature(measurement.function()).parameters) == given, asked.name


def test_an_id_follows_from_what_is_measured():
    base = Measurement.of("m:f", steps=1)
    assert base.id == Measurement.of("m:f", cost=9, steps=1).id
    changes = ({"call": "m:g"}, {"inputs": {"steps": 2}}, {"version": 2}, {"framework": "torch"})
    assert len({base.id, *(dataclasses.replace(base, **change).id for change in changes)}) == 5


def test_what_is_measured_keeps_its_id():
    """Stored measurements are found by it: it must not follow from where a function lies."""
    ids = {asked.measurement.call: asked.measurement.id for asked in every()}
    assert (ids["ngc:defaults"], ids["scaling:laws"]) == ("ad76706e7bb89445669f", "172c0fbb38af1674bd6c")


def test_claims_are_found_by_document_by_name_and_by_both():
    assert select(None) == every()
    assert {asked.document.name for asked in select(["ngc-learn"])} == {"ngc-learn"}
    assert [asked.name for asked in select(["warmup", "esgd-m.warmup"])] == ["esgd-m.warmup"]
    assert len(select(["ngc-learn,novograd"])) == len(select(["ngc-learn"])) + len(select(["novograd"]))
    with pytest.raises(UserError, match="Did you mean warmup"):
        select(["warm-up"])
    with pytest.raises(UserError, match="The documents are esgd-m, "):
        select(["zzz"])
    with pytest.raises(UserError, match="no claim was named"):
        select([","])


def test_the_newest_record_of_a_measurement_counts_and_none_is_changed(tmp_path):
    measurement = Measurement.of("m:f", steps=1)
    ledger = Ledger(tmp_path)
    first = ledger.write(measurement, {"x": math.inf}, FACTS)
    before = first.path.read_bytes()
    ledger.write(measurement, {"x": 2}, FACTS)
    ledger.write(Measurement(call="m:g"), {"x": 3}, FACTS)
    records = ledger.records()
    assert len(records) == 2
    assert records[measurement.id].numbers == {"x": 2}
    assert first.path.read_bytes() == before
    assert records[measurement.id].facts["version.jax"]


def test_a_torn_record_is_passed_over_and_named(tmp_path):
    ledger = Ledger(tmp_path)
    record = ledger.write(Measurement(call="m:f"), {"x": 1}, FACTS)
    (ledger.folder / "torn.json").write_text(record.path.read_text()[:-9])
    (ledger.folder / "other.json").write_text('{"format": 99}')
    assert len(ledger.records()) == 1
    assert set(ledger.passed_over) == {"torn.json", "other.json"}


def test_a_results_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "claims").write_text("a file")
    with pytest.raises(UserError, match=r"claims folder .* cannot be written: .*--results"):
        Ledger(tmp_path).write(Measurement(call="m:f"), {}, FACTS)


@pytest.fixture
def measured(tmp_path) -> Path:
    """A results folder in which every measurement is made up: the first of its cases."""
    make_up(tmp_path)
    return tmp_path


def test_every_rule_is_registered():
    assert set(registered()) == {asked.name for asked in every()}


def test_a_changed_rule_shows_its_registered_verdict(monkeypatch, measured):
    [asked] = select(["nag-step-size"])
    numbers, _ = CASES[asked.name][0]
    plain = asked.ruling(numbers)
    row = Registered(asked.name, digest_of_rule(asked.ruling), "holds")
    monkeypatch.setitem(registered(), asked.name, row)
    assert asked.judge(numbers) == plain
    monkeypatch.setitem(registered(), asked.name, row._replace(rule="another"))
    assert asked.judge(numbers).why.endswith("(Rule changed; it was: holds.)")
    # A rule whose change turned its verdict keeps its row; one that did not is renewed.
    assert {row.claim: row for row in registry.rows(measured)}[asked.name].rule == "another"
    monkeypatch.setitem(registered(), asked.name, row._replace(rule="another", verdict=str(plain.verdict)))
    assert {row.claim: row for row in registry.rows(measured)}[asked.name].rule == row.rule


def test_the_digest_of_a_rule_follows_its_thresholds_and_helpers(monkeypatch):
    [asked] = select(["momentum-helps"])
    before = digest_of_rule(asked.ruling)
    monkeypatch.setattr(esgd_m, "CONSIDERABLE", 1.5)
    assert digest_of_rule.__wrapped__(asked.ruling) != before
    monkeypatch.undo()
    monkeypatch.setattr(esgd_m, "beyond", rules.within)
    assert digest_of_rule.__wrapped__(asked.ruling) != before


def test_there_is_a_row_for_each_measured_claim(measured):
    from optbench.report import documents as claims

    told = claims.measured(measured)
    assert all(list(each.rows.columns) == list(claims.COLUMNS) for each in told)
    rows = [row for each in told for row in each.rows.itertuples()]
    assert [f"{row.document}.{row.claim}" for row in rows] == [asked.name for asked in every()]
    assert {row.verdict for row in rows} <= set(map(str, Verdict))
    [only] = claims.measured(measured, ["kron[b1=0.5]", "adam"])
    assert set(only.rows["document"]) == {"psgd-kron"}
    assert claims.measured(measured / "nothing") == []


def test_a_page_of_claims_has_its_tables_and_figures(measured, tmp_path):
    from optbench.report.write import write_claims

    said = write_claims(str(measured), str(tmp_path / "out"))
    page = (tmp_path / "out" / "claims" / "index.md").read_text()
    assert "5 figures" in said
    for document in documents().values():
        assert f"### {document.title}" in page
    for name in re.findall(r"\((figures/[^)]+)\)", page):
        assert (tmp_path / "out" / "claims" / name).stat().st_size > 1000
    assert page.count("| n^2 |") == 2, "the table of scaling laws"
    rows = (tmp_path / "out" / "claims" / "claims.csv").read_text().splitlines()
    assert len(rows) == 1 + len(every())


def test_a_page_of_nothing_says_what_to_do(tmp_path):
    from optbench.report.write import write_claims

    with pytest.raises(UserError, match="Measure first: optbench claims"):
        write_claims(str(tmp_path), str(tmp_path))


def test_the_whole_table_fits_100_columns(measured, capsys):
    code, data = claims_in_terminal(None, str(measured), False, True, 1, 60.0)
    assert code == 0
    assert all(each["verdict"] and each["documented"] for each in data["claims"])
    out = capsys.readouterr().out
    assert "measurements are stored" in out.splitlines()[0]
    assert max(map(len, out.replace(str(measured), "results").splitlines())) <= 100
    for asked in every():
        assert re.search(rf"^  {asked.short} ", out, re.MULTILINE)
    assert re.search(rf"^{len(every())} claims\.\nequations and counts: \d+; holds \d+, ", out, re.MULTILINE)
    assert re.search(r"^training and cost: \d+; holds \d+, ", out, re.MULTILINE)


command = functools.partial(process.command, "claims")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "results" / "claims").glob("*.json")}


def test_the_command_measures_once_shows_details_and_measures_again_when_told(tmp_path):
    first = command("ngc-learn.nag-step-size", "--strict", "--jobs", "1", cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert "0 measurements stored, 1 to do on 1 worker." in first.stdout
    assert re.search(r"Verdict +does not hold: the measurement says otherwise\.", first.stdout)
    assert re.search(r"Measured +0\.01$", first.stdout, re.MULTILINE)
    stored = files(tmp_path)
    assert len(stored) == 1

    second = command("nag-step-size", cwd=tmp_path)
    assert "all 1 measurements are stored in results/claims" in second.stdout
    assert files(tmp_path) == stored
    again = command("nag-step-size", "--again", "--jobs", "1", cwd=tmp_path)
    assert again.returncode == 0
    assert files(tmp_path).items() > stored.items()


def test_a_measurement_that_fails_is_shown_and_fails_the_command_only_when_asked(tmp_path):
    words = ("ngc-learn", "--timeout", "0.001", "--jobs", "1")
    plain = command(*words, cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.count("measurement failed") == 6 + 1
    assert "timeout: no sign of life" in plain.stdout
    assert files(tmp_path) == {}
    assert command(*words, "--strict", cwd=tmp_path).returncode == 1


def test_a_run_that_failed_fails_what_reads_it(tmp_path, monkeypatch):
    from optbench.claim.session import Inquiry, Session

    inquiry = Inquiry(select(["robust-to-the-rate"]), str(tmp_path))
    session = inquiry.session
    assert session is not None
    assert (len(session.cells), session.store.folder) == (90, tmp_path / "claims")
    frame = __import__("pandas").DataFrame([{"optimizer": "adam", "status": "error", "reason": "it broke"}])
    monkeypatch.setattr(Session, "frame", lambda self: frame)
    monkeypatch.setattr(Session, "run", lambda self, beside: iter(()))
    [done] = inquiry.measure()
    assert isinstance(done.what, Measurement)
    assert done.reason == "adam: error: it broke"
    assert inquiry.failures == {done.what.id: done.reason}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_claims_from_nothing(tmp_path, monkeypatch):
    """Three minutes on two cores are 360 CPU seconds of the whole process tree; nothing is compiled beforehand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("--strict", "--out", "reports", cwd=tmp_path, timeout=1800)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
    print(done.stdout, f"{seconds:.0f} CPU seconds")
    assert seconds < 360
    columns = " ".join(f"(.{{{width}}})" for width in COLUMNS[:-1])
    rows = re.findall(rf"^  (?=[a-z]){columns} ([a-z ]+)$", done.stdout, re.MULTILINE)
    verdicts = {name.strip(): verdict for name, _, _, verdict in rows}
    assert verdicts.keys() == {*(asked.short for asked in every()), "claim"}  # the last is the header
    exact = {
        "schedule-flat": "does not hold", "whitening-trace": "not reproducible", "hessian-trace": "holds",
        "lra-memory": "does not hold", "docstring-trace": "holds", "slow-start": "does not hold",
        "divergence": "holds", "divergence-101": "holds", "outer-momentum": "holds", "scaling-sgd": "holds",
        "scaling-second-order": "holds with a condition", "product-cost": "does not hold", "warmup": "holds",
        "nag-step-size": "does not hold",
    }  # fmt: skip
    assert {name: verdicts[name] for name in exact} == exact
    page = tmp_path / "reports" / "claims"
    assert (page / "index.html").exists()
    assert len(list((page / "figures").glob("*.svg"))) == 5

    stored = files(tmp_path)
    again = command(cwd=tmp_path)
    assert "measurements are stored in results/claims" in again.stdout.splitlines()[0]
    assert files(tmp_path) == stored
