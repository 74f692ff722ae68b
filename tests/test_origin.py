"""The digest of a user's code: which edits change it."""

import importlib
import sys

import pytest

from optbench import origin
from optbench.origin import source_digest, version_of_numbers

PLAIN = "import helper\n\n\ndef make(learning_rate):\n    return helper.rate(learning_rate)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "theirs_here.py").write_text(PLAIN)
    (tmp_path / "helper.py").write_text("def rate(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("theirs_here", "helper"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("# a comment\n\nx = 1  # another\n", True),
        ('"""A docstring."""\nx = 1\n', True),
        ("x = 2\n", False),
        ('x = "#1"\n', False),
    ],
)
def test_comments_and_docstrings_do_not_count(other, same):
    assert (source_digest(other) == source_digest("x = 1\n")) == same


@pytest.mark.parametrize("edited", ["theirs_here.py", "helper.py"])
def test_an_edited_module_that_is_imported_again_is_other_code(folder, edited):
    """As in a notebook, whose process outlives edits."""
    module = importlib.import_module("theirs_here")
    before = origin.code(module.make)
    path = folder / edited
    path.write_text(path.read_text().replace("return ", "return 2 * "))
    again = importlib.reload(module)
    assert origin.code(again.make) != before


def test_a_folder_without_init_is_a_package_whose_edits_are_other_code(folder, monkeypatch):
    (folder / "plain_folder" / "inner").mkdir(parents=True)
    (folder / "plain_folder" / "inner" / "theirs.py").write_text(
        PLAIN.replace("import helper", "from .. import near as helper")
    )
    (folder / "plain_folder" / "near.py").write_text("def rate(x):\n    return x\n")
    module = importlib.import_module("plain_folder.inner.theirs")
    before = origin.code(module.make)
    (folder / "plain_folder" / "near.py").write_text("def rate(x):\n    return 2 * x\n")
    assert origin.code(importlib.reload(module).make) != before


def test_a_file_that_is_loaded_again_after_an_edit_is_other_code(folder):
    path = folder / "theirs_here.py"
    before = origin.load(path)
    path.write_text(PLAIN.replace("return ", "return 2 * "))
    after = origin.load(path)
    assert origin.origin(before.make) == origin.origin(after.make) == "theirs_here.py:make"
    assert origin.code(before.make) != origin.code(after.make)


def test_the_code_of_numbers_covers_what_draws_batches():
    wanted = ["optbench.optimizers.adam", "optbench.tasks.mlp", "optbench.engines.jax"]
    assert len(version_of_numbers(tuple(wanted[:2]), "jax")) == 8
    files = origin.closure(wanted, lambda name: name.startswith("optbench."))
    assert origin.DRAWS in files
