"""The paper pack: its widths, its tables of anything, what ablations conclude, and that TeX takes it."""

import re
import shutil
import subprocess
import sys

import pytest

from optbench import UserError, optimizers
from optbench.report import paper, tex
from optbench.report.ablation import ablations, parts
from optbench.report.content import Content
from optbench.report.selection import Selection
from optbench.tasks import parse as task
from tests.test_report import grid, stored
from tests.test_tuning import made, suite

tueplots = pytest.importorskip("tueplots", reason="the extra `paper` is not installed")
OFF = "adam[b1=0.0]"


def shown(folder, **ratios):
    """A selection of adam, where adam without b1 ends at these multiples of its loss on these tasks."""
    grids = [
        grid(each, name, 1e-3 * (ratio if name == OFF else 1), 8, trials=2)
        for each, ratio in ratios.items()
        for name in ("adam", OFF)
    ]
    store = stored(folder / "r", *grids)
    selection = Selection(task=tuple(ratios), opt=("adam",), results=str(store.folder))
    return selection, Content.of(selection, store), store


def test_parts_are_flags_choices_and_numbers_that_may_be_off():
    kron = parts(optimizers.parse("kron"))
    assert {"b1=0", "momentum_into_precond_update=False"} <= kron.keys()
    assert not {"learning_rate=0", "memory_save_mode=None", "preconditioner_lr=0"} & kron.keys()
    assert kron["b1=0"].label() == "kron[b1=0.0]"
    assert "graft=none" in parts(optimizers.parse("shampoo")) or any(
        "none" in name for name in parts(optimizers.parse("shampoo"))
    )
    chosen = parts(optimizers.parse("kron[b1=0.5]"), ["b1=0", "nesterov=False", "b1=0.5"])
    assert {name: each.label() for name, each in chosen.items()} == {"b1=0": "kron[b1=0.0]"}


def test_an_ablation_says_what_a_part_does(tmp_path):
    _, content, store = shown(tmp_path, quadratic_10=3.0, quadratic_100=0.5, rosenbrock_10=1.0)
    effects, [ran], missing = ablations(content, store, ["b1=0"])
    assert {each.problem: each.verdict for each in effects} == {
        "quadratic_10": "helps", "quadratic_100": "hurts", "rosenbrock_10": "equivalent",
    }  # fmt: skip
    assert {each.problem: each.seeds for each in effects}["quadratic_10"] == 8
    assert effects[0].ratio == pytest.approx(3.0)
    assert missing == []
    assert "--opt 'adam,adam[b1=0.0]'" in ran


def test_seeds_that_disagree_cannot_tell(tmp_path):
    traces = grid(opt=OFF, seeds=6)
    for trace in traces:
        trace.evaluations["loss"] *= 10.0 ** (-1) ** trace.cell.seed
        trace.losses *= 10.0 ** (-1) ** trace.cell.seed
    store = stored(tmp_path, grid(opt="adam", seeds=6), traces)
    content = Content.of(Selection(task=("quadratic_10",), opt=("adam",), results=str(store.folder)), store)
    [effect], *_ = ablations(content, store, ["b1=0"])
    assert effect.verdict == "cannot tell"
    assert effect.low < 1 < effect.high


def test_ablations_compare_what_fresh_seeds_reported(tmp_path):
    names = (optimizers.parse("adam"), optimizers.parse(OFF))
    one = suite(tasks=(task("quadratic_10"),), optimizers=names, tuning="grid", fresh=True, seeds=6)
    store = stored(tmp_path, made(one, 2, 1e-4))
    content = Content.of(Selection(suite=one, opt=("adam",), results=str(store.folder)), store)
    [effect], *_ = ablations(content, store, ["b1=0"])
    assert (effect.seeds, effect.ratio, effect.verdict) == (6, 1.0, "equivalent")
    assert r"0.0001 to 1 & 4 & 0.0464 \\" in "".join(paper.hyperparameters(content))


def test_what_is_not_stored_has_the_command_that_computes_it(tmp_path):
    store = stored(tmp_path, grid(opt="adam", seeds=6))
    content = Content.of(Selection(task=("quadratic_10",), opt=("adam",), results=str(store.folder)), store)
    effects, _, [command] = ablations(content, store)
    assert effects == []
    assert "--opt 'adam,adam[b1=0.0]" in command
    assert "--seeds 6" in command
    assert "--steps 40" in command
    assert "--lr" in command


@pytest.mark.slow
def test_the_pack_has_the_width_of_the_venue(tmp_path, monkeypatch):
    pieces = iter([("curves-1", paper.overview)])
    selection, _, _ = shown(tmp_path, quadratic_10=3.0)
    monkeypatch.setattr(
        paper, "drawn", lambda content, width: [(name, draw(content, width)) for name, draw in pieces]
    )
    _, facts = paper.write_paper(selection, str(tmp_path / "p"), "icml2024", ["b1=0"])
    assert facts["width"] == 6.75
    [figure] = (tmp_path / "p" / "figures").iterdir()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", figure.read_bytes())
    assert box is not None
    assert float(box[1]) == pytest.approx(6.75 * 72, abs=0.1)
    main = (tmp_path / "p" / "main.tex").read_text()
    assert "textwidth=6.7500in" in main
    assert r"\input{tables/ablation}" in main
    ablated = (tmp_path / "p" / "tables" / "ablation.tex").read_text()
    assert re.search(r"adam & b1=0 & quadratic\\_10 & 3\b.* & 8 & helps ", ablated), ablated
    chosen = (tmp_path / "p" / "tables" / "hyperparameters.tex").read_text()
    assert r"quadratic\_10 & adam & learning\_rate & 0.0001 to 1" in chosen
    commands = (tmp_path / "p" / "commands.sh").read_text()
    assert "optbench run" in commands
    assert "optbench paper --venue icml2024" in commands
    assert "--without b1=0" in commands
    assert facts["ablations"][0]["verdict"] == "helps"


def test_an_unknown_venue_and_a_missing_package_are_sentences(monkeypatch):
    with pytest.raises(UserError, match="Did you mean icml2024"):
        paper.bundle("icml202")
    monkeypatch.setitem(sys.modules, "tueplots", None)
    with pytest.raises(UserError, match=r"pip install 'optbench\[paper\]'"):
        paper.bundle("icml2024")


def test_every_bundle_has_a_style():
    from tueplots import bundles

    names = [name for name in vars(bundles) if re.fullmatch(r"[a-z]+\d{4}", name)]
    assert len(names) > 12
    for name in names:
        style = paper.bundle(name)
        assert 3 < style["figure.figsize"][0] < 8
        assert not style.get("text.usetex")


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is missing (Debian: texlive-latex-recommended)"
)
@pytest.mark.parametrize("venue", ["neurips2024", "eccv2024"])
def test_the_document_compiles_within_the_text_width(tmp_path, venue):
    hostile = r"a_very_long_name_of_an_optimizer[%$&#{}~^\input{x},beta=0.123456789,gamma=0.987654321,λ=1]"
    selection, _, _ = shown(tmp_path, quadratic_10=3.0, mlp=0.5)
    named = [tex.escape(hostile), *tex.tables(("a", "b"), [[hostile, hostile]], hostile, 1, 10)]
    paper.write_paper(selection, str(tmp_path / "p"), venue, ["b1=0"])
    main = tmp_path / "p" / "main.tex"
    text = main.read_text().replace(
        r"\end{document}", "\n\n".join([tex.text(hostile), *named[1:], r"\end{document}"])
    )
    main.write_text(text)
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main"], cwd=main.parent, capture_output=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    log = (main.parent / "main.log").read_text(errors="replace")
    assert not re.findall(r"Overfull|Float too large|undefined", log), log[-3000:]
