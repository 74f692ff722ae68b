"""Data from local folders: what is whole is read, what is not says what is wrong with it, and no pickle runs."""

import functools
import hashlib
import importlib
import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from optbench.cell import Cell
from optbench.fields import UserError
from optbench.optimizers import parse as optimizer
from optbench.tasks import parse as task
from optbench.tasks.data import cifar10, digits, folder, images, mnist, text
from tests import datafiles
from tests.process import command
from tests.test_report import grid, stored, told


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty data folder, and a working directory that is not it."""
    data, here = tmp_path / "data", tmp_path / "here"
    data.mkdir()
    here.mkdir()
    monkeypatch.setenv(folder.VARIABLE, str(data))
    monkeypatch.chdir(here)
    return data


# --- what is whole is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [datafiles.cifar_binary, datafiles.cifar_python])
def test_cifar_in_both_versions(place, write):
    write(place)
    (x, y), (test_x, test_y) = cifar10.read(images.paths("cifar10"))
    batches = [datafiles.cifar_batch(name) for name in datafiles.CIFAR_FILES]
    pixels, labels = map(np.concatenate, zip(*batches[:-1], strict=True))
    for found, wanted in ((x, pixels), (y, labels), (test_x, batches[-1][0]), (test_y, batches[-1][1])):
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
    # Rows of red, then of green, then of blue.
    assert x.shape[1:] == (3, 32, 32)
    assert x[0, 1, 0, 2] == batches[0][0][0, 1024 + 2]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_batch_pickled_again_by_a_newer_python(place, protocol):
    pixels, labels = datafiles.cifar_batch("again")
    batch = {b"data": pixels, b"labels": labels.tolist()}
    (place / "batch").write_bytes(pickle.dumps(batch, protocol))
    read, classes = cifar10.pickled(place / "batch")
    np.testing.assert_array_equal(read.reshape(len(read), -1), pixels)
    np.testing.assert_array_equal(classes, labels)


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_packed_or_not(place, packed):
    datafiles.mnist(place / "MNIST" / "raw", packed)
    (x, y), (test_x, test_y) = mnist.read(images.paths("mnist"))
    arrays = datafiles.mnist_arrays()
    for got, name in zip((x[:, 0], y, test_x[:, 0], test_y), datafiles.MNIST_FILES, strict=True):
        np.testing.assert_array_equal(got, arrays[name])


def test_the_same_data_in_another_form_is_the_same_cell(place, monkeypatch, tmp_path):
    cell = Cell(task("resnet[dataset=mnist,batch=16]"), optimizer("adam"))
    datafiles.mnist(place)
    plain = cell.id()
    other = datafiles.mnist(tmp_path / "other" / "mnist", packed=True)
    monkeypatch.setenv(folder.VARIABLE, str(other.parent))
    assert cell.id() == plain
    labels = other / "train-labels-idx1-ubyte.gz"
    raw = bytearray(datafiles.idx(datafiles.mnist_arrays()["train-labels-idx1-ubyte"]))
    raw[-1] = (raw[-1] + 1) % 10
    labels.write_bytes(bytes(raw))  # an unpacked file under a packed name is read as what it is
    assert cell.id() != plain


def test_published_images_are_split_once_and_for_all(place):
    datafiles.cifar_binary(place)
    arrays = images.load("cifar10")
    assert [len(arrays[f"{part}_y"]) for part in images.PARTS] == [32, 8, 8]
    rows = [row.tobytes() for part in images.PARTS for row in arrays[f"{part}_x"]]
    assert len(set(rows)) == 48
    images.read.cache_clear()
    np.testing.assert_array_equal(images.load("cifar10")["validation_x"], arrays["validation_x"])


def test_characters_and_tokens(place):
    (place / "mine.txt").write_text("abc ca\nç" * 50, encoding="utf-8")
    found = text.load("mine.txt")
    assert found.vocabulary == 6
    assert "".join("\n abcç"[i] for i in found.tokens[:8]) == "abc ca\nç"
    tokens = np.arange(1000, dtype="<u2") % 300
    tokens.tofile(place / "mine.bin")
    found = text.load("mine.bin")
    assert found.vocabulary == 300
    np.testing.assert_array_equal(found.tokens, tokens)
    assert text.data_hash("mine.txt") != text.data_hash("mine.bin")


def test_the_parts_of_a_text_follow_each_other():
    found = text.load("pydoc")
    parts = found.parts()
    np.testing.assert_array_equal(np.concatenate(list(parts.values())), found.tokens)
    assert [round(len(part) / len(found.tokens), 3) for part in parts.values()] == [0.8, 0.1, 0.1]


def test_the_text_that_comes_with_the_package_is_the_one_that_was_taken_from_python():
    """37 topics of Python 3.11; a Python that words one of them otherwise gives nothing to compare with."""
    words = text.PYDOC.read_text(encoding="utf-8")
    assert len(words) == 67_029
    assert hashlib.sha256(words.encode()).hexdigest() == text.PYDOC_SHA256
    topics = importlib.import_module("pydoc_data.topics").topics
    there = [topic for topic in sorted(topics) if len(topic) > 1 and topics[topic] and topics[topic] in words]
    if "".join(topics[topic] for topic in there) != words:
        pytest.skip("this Python's help() has other words")
    assert len(there) == 37


def test_n_gram_baselines_by_hand(place):
    """Unigrams of a text of two letters: p(b) = (counts + PRIOR / 2) / (all + PRIOR)."""
    (place / "ab.txt").write_text("a" * 60 + "b" * 20 + "b" * 20)
    chance = (20 + text.PRIOR / 2) / (80 + text.PRIOR)
    assert text.baseline("ab.txt", 1) == pytest.approx(-np.log(chance))
    # After b always b: 19 of 19, to which the unigrams add PRIOR counts; the first b of the part has no context.
    after = (19 + text.PRIOR * chance) / (19 + text.PRIOR)
    assert text.baseline("ab.txt", 2) == pytest.approx(-np.log(after))


@functools.cache
def published() -> dict[str, str]:
    """A checksum for every file that the tests write: none is as published."""
    layouts = (*cifar10.LAYOUTS, *mnist.LAYOUTS, *text.SHAKESPEARE)
    return {name: value for layout in layouts for name, value in layout.checksums.items()}


def test_checksums_have_the_form_of_checksums_and_differ():
    assert all(len(value) in (32, 64) and int(value, 16) for value in published().values())
    dotted = set(mnist.DOTTED.checksums)
    plain = [value for name, value in published().items() if name not in dotted]
    assert len(set(plain)) == len(plain) - 1  # Shakespeare under two names


def test_files_that_are_not_the_published_ones_are_used_with_a_note(place, monkeypatch):
    datafiles.mnist(place)
    [note] = task("resnet[dataset=mnist,batch=16]").notes()
    assert "train-images-idx3-ubyte" in note
    assert "are not as published" in note
    sums = {name: hashlib.md5((place / name).read_bytes()).hexdigest() for name in datafiles.MNIST_FILES}
    monkeypatch.setattr(mnist, "LAYOUTS", (folder.Layout(mnist.FOLDERS, sums),))
    assert images.notes("mnist") == []
    assert task("resnet").notes() == []


def test_a_file_is_read_again_only_when_it_has_changed(place, monkeypatch):
    path = place / "mine.txt"
    path.write_text("abc" * 100)
    reads = []
    honest = text.characters
    monkeypatch.setattr(text, "characters", lambda path: reads.append(path) or honest(path))
    first = [text.data_hash("mine.txt") for _ in range(5)]
    assert len(reads) == 1
    path.write_text("acb" * 100)
    os.utime(path, ns=(1, 1))  # a clock too coarse to tell the two apart must not matter
    assert text.data_hash("mine.txt") != first[0]
    assert len(reads) == 2


def test_rows_of_other_data_do_not_mix_and_a_report_needs_none(place, tmp_path, monkeypatch):
    name, path = "transformer[dataset=mine.txt,context=8,d_model=16,layers=1,heads=2]", place / "mine.txt"
    monkeypatch.setattr("tests.test_report.METRICS", ("train_loss", "validation_loss", "test_loss"))
    path.write_text("abc" * 1000)
    first = grid(name, "sgd", seeds=2, level=1.0)
    store, ids = stored(tmp_path / "r", first), {each.cell.id() for each in first}
    path.write_text("acb" * 1000)
    stored(tmp_path / "r", grid(name, "sgd", seeds=2, level=2.0))
    assert not ids & set(store.frame()["cell"])
    assert ids < set(store.frame(older=True)["cell"])
    assert set(store.frame(cells=ids)["cell"]) == ids, "a run shows its own cells, whatever ran since"
    path.unlink()
    monkeypatch.delenv(folder.VARIABLE)
    label = first[0].cell.task.label()
    assert told(store, task=(label,)).summary["seeds"].tolist() == [2]
    older = told(store, task=(label,), older=True)
    assert older.summary["optimizer"].str.contains("(data ", regex=False).tolist() == [False, True]
    assert "(data" not in older.next_command()


# --- what is not, says so ----------------------------------------------------------------------------------


def refused(text_of_task: str) -> str:
    """What is message of a task whose data is no good."""
    with pytest.raises(UserError) as error:
        task(text_of_task).data_hash()
    return str(error.value)


def test_without_a_folder(monkeypatch):
    monkeypatch.delenv(folder.VARIABLE)
    message = refused("resnet[dataset=cifar10]")
    assert "--data DIR" in message
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in message


def test_a_file_that_is_missing_is_named_with_where_it_was_looked_for(place):
    message = refused("resnet[dataset=cifar10]")
    assert "'data_batch_1.bin' is missing" in message
    assert str(place / "cifar-10-batches-bin") in message
    assert str(place / "cifar-10-batches-py") in message
    os.remove(datafiles.cifar_binary(place) / "data_batch_4.bin")
    assert f"'data_batch_4.bin' is missing in '{place / 'cifar-10-batches-bin'}'" in refused(
        "resnet[dataset=cifar10]"
    )
    datafiles.mnist(place)
    os.remove(place / "t10k-labels-idx1-ubyte")
    assert "'t10k-labels-idx1-ubyte' is missing" in refused("resnet[dataset=mnist]")


def test_one_whole_layout_is_enough(place):
    os.remove(datafiles.cifar_binary(place) / "data_batch_4.bin")
    datafiles.cifar_python(place)
    assert {path.suffix for path in images.paths("cifar10")} == {""}


@pytest.mark.parametrize("keep", [0, 1, 3072, 3074, 8 * 3073 - 1])
def test_a_binary_batch_that_was_cut_short(place, keep):
    path = datafiles.cifar_binary(place) / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:keep])
    message = refused("resnet[dataset=cifar10]")
    assert str(path) in message
    assert f"{keep:,} bytes" in message


def test_a_label_that_is_none(place):
    path = datafiles.cifar_binary(place) / "test_batch.bin"
    raw = bytearray(path.read_bytes())
    raw[3073 * 2] = 10
    path.write_bytes(bytes(raw))
    assert "image 2 has label 10" in refused("resnet[dataset=cifar10]")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"data": None}, "not a batch"),
        ({"labels": None}, "not a batch"),
        ({"labels": [1.5] * 8}, "not a batch"),
        ({"labels": [1] * 7}, "not a batch"),
        ({"labels": [11] * 8}, "label 11"),
        ({"labels": [10**30] * 8}, "label 1000000"),
        ({"labels": [-1] * 8}, "label -1"),
        ({"data": np.zeros((8, 3071), np.uint8)}, "not a batch"),
        ({"data": np.zeros((8, 3072), np.float32)}, "unsigned bytes"),
        ({"data": np.zeros((8, 3072), np.int8)}, "unsigned bytes"),
        ({"data": np.zeros((8, 3072), np.uint8, order="F")}, "unknown form"),
        ({"data": np.zeros((8, 3072), object)}, "unsigned bytes"),
    ],
)
def test_a_pickled_batch_with_something_else_in_it(place, change, word):
    pixels, labels = datafiles.cifar_batch("x")
    batch = {b"data": pixels, b"labels": labels.tolist()} | {
        key.encode(): value for key, value in change.items()
    }
    path = datafiles.cifar_python(place) / "data_batch_3"
    path.write_bytes(pickle.dumps(batch, 2))
    assert word in refused("resnet[dataset=cifar10]")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x80", b"\x80\x02}(", b"]]]]", b"not a pickle", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f."]
    + [datafiles.python_batch(*datafiles.cifar_batch("x"))[:cut] for cut in (10, 100, 1000, -1)],
)
def test_a_torn_pickle(place, raw):
    path = datafiles.cifar_python(place) / "data_batch_1"
    path.write_bytes(raw)
    message = refused("resnet[dataset=cifar10]")
    assert str(path) in message
    assert "cannot be read as a pickle of arrays" in message or "not a batch" in message


class Named:
    """Pickles as a name, which an unpickler would have to look up."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


CODE = {
    "eval": pickle.dumps({b"data": datafiles.Runs()}, 2),
    "system": b"cposix\nsystem\n(S'touch ran'\ntR.",
    "instance": b"(S'touch ran'\niposix\nsystem\n.",
    "stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x09touch ran\x85R.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x13ndarray.__reduce__\x93.",
    "extension": b"\x80\x02\x82\x01.",
    "codec": pickle.dumps(Named(importlib.import_module("_codecs").encode, "touch", "rot13"), 2),
    "import": pickle.dumps(Named(importlib.import_module, "this"), 2),
    "getattr": pickle.dumps(Named(getattr, "x", "upper"), 2),
    "persistent": b"\x80\x02K\x01Q.",
    "own class": pickle.dumps(io.BytesIO(b"x"), 2),
    "load": b"cnumpy\nload\n(S'ran.npy'\ntR.",
}


@pytest.mark.parametrize("name", CODE)
def test_a_pickle_with_code_runs_nothing(place, name, monkeypatch):
    """Whatever it names is refused before it is looked up; every way of naming that pickle has is tried."""
    (place / "batch").write_bytes(CODE[name])
    monkeypatch.setattr(sys, "meta_path", [])  # an import would fail loudly
    before = set(sys.modules)
    with pytest.raises(UserError) as error:
        cifar10.unpickled(place / "batch")
    assert not Path("ran").exists()
    assert set(sys.modules) == before
    if name in ("eval", "system", "instance", "stack"):
        assert "would run code" in str(error.value)
        assert "nothing of it was run" in str(error.value)


def test_the_code_in_the_tests_would_run(place):
    """Otherwise the test before could not fail."""
    pickle.loads(CODE["eval"])
    assert Path("ran").exists()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train-images-idx3-ubyte", lambda raw: b"\x00\x00\x0d\x03" + raw[4:], "0x0803"),
        ("train-images-idx3-ubyte", lambda raw: raw[:-1], "It was cut short"),
        ("train-images-idx3-ubyte", lambda raw: raw[:9], "It was cut short"),
        ("train-images-idx3-ubyte", lambda raw: raw + b"x", "holds 31,361"),
        ("train-images-idx3-ubyte", lambda raw: b"", "0x0803"),
        ("train-images-idx3-ubyte", lambda raw: datafiles.idx(np.zeros((40, 27, 28), np.uint8)), "27 x 28"),
        ("train-images-idx3-ubyte", lambda raw: datafiles.idx(np.zeros((0, 28, 28), "u1")), "0 x 28 x 28"),
        ("train-labels-idx1-ubyte", lambda raw: datafiles.idx(np.zeros(39, np.uint8)), "39 labels"),
        ("train-labels-idx1-ubyte", lambda raw: raw[:-3] + b"\x0a" + raw[-2:], "image 37 has label 10"),
        ("t10k-labels-idx1-ubyte", lambda raw: datafiles.idx(np.zeros((10, 28, 28), np.uint8)), "0x0801"),
    ],
)
def test_idx_files_that_are_damaged(place, name, change, words):
    datafiles.mnist(place)
    (place / name).write_bytes(change((place / name).read_bytes()))
    message = refused("resnet[dataset=mnist]")
    assert words in message
    assert name in message


def test_a_packed_file_that_is_torn(place):
    path = datafiles.mnist(place, packed=True) / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be unpacked" in refused("resnet[dataset=mnist]")
    path.write_bytes(path.read_bytes()[:200] + b"\x00" * 2000)
    assert "cannot be unpacked" in refused("resnet[dataset=mnist]")


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"caf\xe9 au lait", "byte 3"),
        ("a.txt", b"short", "a shorter context"),
        ("a.bin", b"", "is empty"),
        ("a.bin", b"\x01\x00\x02", "3 bytes"),
        ("a.bin", b"\x01\x00" * 20, "a shorter context"),
    ],
)
def test_texts_that_are_no_good(place, name, raw, words):
    (place / name).write_bytes(raw)
    assert words in refused(f"transformer[dataset={name}]")


@pytest.mark.parametrize("name", ["../a.txt", "/etc/a.txt", "pydocs", "a.csv"])
def test_names_that_are_no_texts(name):
    message = refused(f"transformer[dataset={name}]")
    assert repr(name) in message


def test_more_rows_than_there_are(place):
    datafiles.mnist(place)
    assert "32 training images" in refused("resnet[dataset=mnist]")


def test_digits_are_read_from_scikit_learn():
    assert digits.splits()["train_x"].shape == (1078, 64)


# --- the whole way ------------------------------------------------------------------------------------------


SHORT = ("--opt", "sgd", "--lr", "0.1", "--seeds", "1", "--steps", "2", "--jobs", "1")


@pytest.mark.slow
def test_a_run_over_local_data(tmp_path, place):
    """--data reaches the workers, the path is no part of the cell, and files not as published are noted."""
    (place / "input.txt").write_text("Now is the winter of our discontent. " * 20)
    network = "d_model=8,layers=1,heads=1,context=8,batch=4"
    what = ("run", "--task", f"transformer[dataset=shakespeare,{network}]", *SHORT)
    done = command(*what, "--data", "../data", cwd=tmp_path / "here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "input.txt in" in done.stdout
    assert "is not as published" in done.stdout
    moved = tmp_path / "elsewhere"
    place.rename(moved)
    again = command(*what, cwd=tmp_path / "here", OPTBENCH_DATA=str(moved))
    assert "nothing to compute" in again.stdout, again.stdout + again.stderr


def test_bad_data_is_refused_before_anything_is_written(tmp_path, place):
    path = datafiles.cifar_python(place) / "data_batch_1"
    path.write_bytes(CODE["eval"])
    done = command(
        "run", "--task", "resnet[dataset=cifar10]", *SHORT, "--data", "../data", cwd=tmp_path / "here"
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("optbench: '")
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "here").iterdir()) == []
