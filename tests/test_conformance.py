"""`optbench vet --full`: from the command line, from Python, and that every check can fail."""

import importlib
import json
from xml.etree import ElementTree

import pytest

from optbench import catalogue, optimizers, testing
from optbench.conformance import DISTRIBUTED, Check, findings, judge, listed
from optbench.fields import UserError
from optbench.protocol import FRAMEWORKS
from tests import matrix, planted
from tests.process import command

PLANTED = [
    pytest.param(
        Check(framework, *key.split(".")), thing, id=f"{framework}-{key}", marks=[pytest.mark.slow] * slow
    )
    for framework, faults in (("torch", planted.TORCH), ("jax", planted.JAX))
    for key, thing in faults.items()
    for slow in [key.split(".")[0] in DISTRIBUTED]
]
pytestmark = pytest.mark.filterwarnings("ignore")


def subject(thing, framework):
    return importlib.import_module(f"optbench.conformance.{framework}").Subject(catalogue.optimizer(thing))


@pytest.mark.parametrize(("check", "thing"), PLANTED)
def test_each_check_finds_its_planted_fault(check, thing):
    if check.group in DISTRIBUTED:
        ((_, finding),) = findings([catalogue.optimizer(thing)], [check.key], [check.framework], 1)
        holds, sentence = finding[1:]
    else:
        holds, sentence = judge(check, subject(thing, check.framework))
    assert holds is False, sentence
    assert len(sentence.split()) > 3


def test_each_check_has_a_planted_fault():
    for framework, faults in (("torch", planted.TORCH), ("jax", planted.JAX)):
        assert {each.key for each in listed() if each.framework == framework} - planted.UNPLANTED == set(
            faults
        )


@pytest.mark.parametrize(("thing", "framework"), [(planted.Sound, "torch"), (planted.sound, "jax")])
def test_what_is_sound_passes(thing, framework):
    sound = subject(thing, framework)
    for check in listed():
        if check.framework == framework and check.group in ("use", "trees"):
            holds, sentence = judge(check, sound)
            assert holds is not False, f"{check.key}: {sentence}"


OURS = (
    "esgd[eps=1.0,d_warmup=2,update_d_every=3,weight_decay=0.1]", "expectigrad", "ngc_adam", "ngc_nag", "ngc_sgd",
    "novograd[weight_decay=0.1]", "kron[weight_decay=0.1]", "xmat[nesterov=True]", "lra", "affine",
    "kron_dq[dQ=QUAD,momentum=0.9,weight_decay=0.1]", "lra_dq[rank_of_approximation=0]",
)  # fmt: skip
ONLY = {"torch": ("optbench.optimizers.kron.torch_kron_torch:KronTorch",), "jax": ("dense_newton[dQ=QUAD]",)}
QUICK = {
    "torch": {each.name for each in listed() if each.framework == "torch" and each.group == "use"}
    - {"compile"},
    "jax": {"value", "carry", "nested"},
}
ELSEWHERE = {"maximize", "foreach", "sparse", "group_rates"}
"""Checks of what an optimizer may refuse or lack."""


@pytest.mark.parametrize(
    ("framework", "text"), [(name, text) for name in FRAMEWORKS for text in (*OURS, *ONLY[name])]
)
def test_what_is_written_here_holds_what_is_quick_to_check(framework, text):
    thing = subject(text, framework)
    for check in listed():
        if check.framework == framework and check.group == "use" and check.name in QUICK[framework]:
            holds, sentence = judge(check, thing)
            assert holds or (holds is None and check.name in ELSEWHERE), f"{check.key}: {sentence}"


@pytest.mark.slow
def test_a_crash_and_a_hang_are_findings(monkeypatch):
    monkeypatch.setattr("optbench.conformance.PATIENT", 20.0)
    things = [catalogue.optimizer(each) for each in (planted.Crash, planted.Hang)]
    found = {job.thing.label(): finding for job, finding in findings(things, ["use.closure"], ["torch"], 2)}
    (crash, hang) = (found[thing.label()] for thing in things)
    assert crash[:2] == hang[:2] == ["use.closure", False]
    assert "ended with code 3" in crash[2]
    assert "no sign of life" in hang[2]


@pytest.mark.parametrize(
    ("target", "code", "states"),
    [
        ("tests.planted:Hidden", 1, (False, True, True)),
        pytest.param("novograd", 0, (True, None, True), marks=pytest.mark.slow),
    ],
)
def test_from_the_command_line(tmp_path, target, code, states):
    what = ("use.pickle", "use.foreach", "trees.tied")
    words = ["--full", "--only", ",".join(what), "--framework", "torch", "--json", "--junit", "j.xml"]
    done = command("vet", target, *words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert {each["check"]: each["holds"] for each in checks} == dict(zip(what, states, strict=True))
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", str(code))


@pytest.mark.slow
def test_from_python_and_as_a_fixture(optbench_conformance):
    optbench_conformance("sgd", only=["trees.spike"], framework="torch")
    testing.check_conformance("sgd", ["trees.spike"], "torch")
    with pytest.raises(AssertionError, match=r"use\.pickle"):
        testing.check_conformance(planted.Hidden, ["use.pickle"])
    with pytest.raises(UserError, match="not a check"):
        testing.check_conformance("sgd", ["usage"])


@pytest.mark.slow
@pytest.mark.parametrize("name", optimizers.names())
def test_the_catalogue_is_as_documented(name):
    """No check fails that passes in docs/conformance.tsv, which `make conformance` writes."""
    known = matrix.read()
    for job, (key, holds, sentence) in findings([catalogue.optimizer(name)], [], FRAMEWORKS, 2):
        documented, _ = known.get((name, job.framework, key), ("", ""))
        assert holds is not False or documented == "fail", f"{job.framework} {key}: {sentence}"
