"""X that can only be sliced by rows: the fit of the array, and no large piece read."""

import re
import threading
from pathlib import Path

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn import config_context
from sklearn.base import clone

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    softmax_path,
)
from softreg import _streams as streams
from softreg._sources import RowSource, is_source
from softreg.solvers import SOLVERS

MOST_ROWS = 64
PAGE = Path(__file__).resolve().parents[1] / "docs" / "out-of-core.md"


class Sliced:
    """Rows by slices, one reader at a time; to ask for many at once is an error."""

    def __init__(self, X, most=MOST_ROWS):
        self.X, self.most, self.n_read = X, most, 0
        self.shape, self.dtype = X.shape, X.dtype
        self._alone = threading.Lock()

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        assert self._alone.acquire(blocking=False), "two threads read at once"
        try:
            read = self.X[rows].copy()
            assert read.shape[0] <= self.most, f"{read.shape[0]} rows were read at once"
            self.n_read += read.shape[0]
            return read
        finally:
            self._alone.release()

    def __array__(self, *args, **kwargs):
        raise AssertionError("all rows were read at once")


RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, size=600)
X = RNG.normal(size=(4, 12))[Y] + RNG.normal(size=(600, 12))
WEIGHT = RNG.random(600)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Read no more rows at a time than the sources allow."""
    for module in ("_problem", "_scores"):
        monkeypatch.setattr(f"softreg.{module}.block_rows", lambda *shape: MOST_ROWS)
    monkeypatch.setattr("softreg._sources.PIECE_BYTES", MOST_ROWS * X.shape[1])
    entries = MOST_ROWS * X.shape[1]
    monkeypatch.setattr("softreg._hierarchical.PIECE_ENTRIES", entries)


def assert_same_fit(left, right):
    for name, value in vars(right).items():
        if name.endswith("_") and isinstance(value, np.ndarray | float | int):
            np.testing.assert_array_equal(getattr(left, name), value, err_msg=name)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_source_has_the_bits_of_its_array(solver):
    source = Sliced(X)
    model = SoftmaxRegression(0.1, solver=solver, n_jobs=2).fit(X, Y, WEIGHT)
    other = clone(model).fit(source, Y, WEIGHT)
    assert_same_fit(other, model)
    for method in ("predict", "predict_log_proba", "decision_function"):
        expected = getattr(model, method)(X)
        got = getattr(other, method)(source)
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, expected)
    assert other.score(source, Y, WEIGHT) == model.score(X, Y, WEIGHT)
    assert source.n_read > 5 * len(X)


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "uint8", "int16", "uint32", "bool", "longdouble"]
)
def test_a_source_is_read_in_the_dtype_of_its_array(dtype):
    rows = (4 * X + 20 if dtype != "bool" else X > 1).astype(dtype)
    model = SoftmaxRegression(0.1).fit(rows, Y)
    other = clone(model).fit(Sliced(rows), Y)
    assert other.coef_.dtype == model.coef_.dtype
    assert_same_fit(other, model)
    np.testing.assert_array_equal(other.predict(Sliced(rows)), model.predict(rows))


def test_a_source_may_name_its_dtype_by_numpys_class():
    source = Sliced(X)
    source.dtype = np.float64
    assert_same_fit(SoftmaxRegression().fit(source, Y), SoftmaxRegression().fit(X, Y))


def test_a_source_of_swapped_bytes_is_read_in_the_bytes_of_the_machine():
    rows = X.astype(np.float32)
    swapped = Sliced(rows.astype(rows.dtype.newbyteorder()))
    other = SoftmaxRegression(0.1).fit(swapped, Y)
    assert_same_fit(other, SoftmaxRegression(0.1).fit(rows, Y))


@pytest.mark.parametrize(
    "model",
    [
        SoftmaxRegressionCV([1e-2, 1], cv=3),
        SoftmaxRegressionCV([1e-2, 1], cv=3, scoring="f1_macro"),
        SoftmaxRegressionCV(
            [1e-2], cv=2, loss="topk-2", scoring="neg_log_loss", tol=1e-2
        ),
        RobustSoftmaxRegression(SoftmaxRegression(1e-2)),
        LargeMarginSoftmaxRegression(C=1e-2),
        HierarchicalSoftmax(SoftmaxRegression(1e-2), random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_other_estimators_take_sources(model):
    other = clone(model).fit(Sliced(X), Y)
    assert_same_fit(other, model.fit(X, Y))
    np.testing.assert_array_equal(
        other.predict_proba(Sliced(X)), model.predict_proba(X)
    )
    np.testing.assert_array_equal(other.predict(Sliced(X)), model.predict(X))
    assert other.score(Sliced(X), Y) == model.score(X, Y)


def test_a_search_in_a_wide_tree_reads_few_rows_at_a_time():
    labels = 3 * Y + RNG.integers(0, 3, size=len(Y))
    tree = [list(range(6)), list(range(6, 12))]
    model = HierarchicalSoftmax(SoftmaxRegression(1e-2), tree=tree).fit(X, labels)
    expected, _ = model.predict_best(X, 3)
    np.testing.assert_array_equal(model.predict_best(Sliced(X), 3)[0], expected)


def test_a_path_and_a_warm_start_take_sources():
    expected = softmax_path(X, Y, Cs=3).coefs
    np.testing.assert_array_equal(softmax_path(Sliced(X), Y, Cs=3).coefs, expected)
    model = SoftmaxRegression(warm_start=True).fit(X, Y)
    assert model.fit(Sliced(X), Y).n_iter_ == 0


def test_more_columns_than_rows_are_read_whole_where_they_are_few(monkeypatch):
    rows, labels = RNG.normal(size=(40, 200)), Y[:40]
    model = SoftmaxRegression().fit(rows, labels)
    assert_same_fit(clone(model).fit(Sliced(rows), labels), model)
    monkeypatch.setattr("softreg._problem.block_rows", lambda *shape: 10)
    monkeypatch.setattr("softreg._problem.WHOLE_BYTES", 0)
    other = clone(model).fit(Sliced(rows, most=10), labels)
    assert other.converged_
    assert other.objective_ == pytest.approx(model.objective_, rel=1e-4)


@pytest.mark.parametrize("room", [1 << 40, 0], ids=["resident", "streamed"])
def test_a_source_goes_to_a_device_in_pieces(monkeypatch, room):
    place = array_api_strict.Device("device1")
    monkeypatch.setattr(
        "softreg._parameters.gpu_reference",
        lambda device: array_api_strict.empty(0, device=place),
    )
    monkeypatch.setattr("softreg._rows.free_gpu_bytes", lambda array: room)
    source = Sliced(X)
    model = SoftmaxRegression(0.1, device="cuda").fit(source, Y)
    assert model.converged_
    # Read to be checked and to be sent; else at every pass too.
    assert (source.n_read == 2 * len(X)) == (room > 0)
    assert_same_fit(model, clone(model).fit(X, Y))
    np.testing.assert_array_equal(model.predict(Sliced(X)), model.predict(X))


def test_a_source_is_staged_for_a_gpu():
    rows = RowSource(Sliced(X), 0, len(X))
    stream = streams.RowStream([rows.view(0, 40), rows.view(40, 70)], np.empty(0))
    staged = np.empty((40, 12))
    np.copyto(staged, stream.blocks[0])
    np.testing.assert_array_equal(staged, X[:40])
    assert stream.blocks[1].shape == (30, 12)


def with_entry(value):
    rows = X.copy()
    rows[-1, -1] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (with_entry(np.nan), "Input X contains NaN"),
        (with_entry(-np.inf).astype(np.float32), "Input X contains infinity"),
        (X.astype(complex), "Complex data not supported"),
        (X.astype(object), "X must have a dtype of real numbers, got object"),
        (X.astype(str), "X must have a dtype of real numbers, got <U32"),
        (X[:0], r"0 sample\(s\)"),
        (X[:, :0], r"0 feature\(s\)"),
        (X[:-1], "inconsistent numbers of samples"),
        (scipy.sparse.csr_array(X), "X must give dense rows of its own shape"),
    ],
)
def test_a_bad_source_is_refused_and_changes_nothing(rows, words):
    model = SoftmaxRegression().fit(X, Y)
    before = {**vars(model)}
    with pytest.raises(ValueError, match=words):
        model.fit(Sliced(rows), Y)
    assert vars(model) == before


def test_rows_of_other_columns_are_not_predicted():
    model = SoftmaxRegression().fit(X, Y)
    with pytest.raises(ValueError, match="X has 11 features, but SoftmaxRegression"):
        model.predict(Sliced(X[:, :11]))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(Sliced(with_entry(np.nan)))


def test_rows_said_to_be_finite_are_not_searched():
    source = Sliced(X)
    model = SoftmaxRegression().fit(X, Y)
    with config_context(assume_finite=True):
        model.predict(source)
    assert source.n_read == len(X)


def test_indexing_a_source_is_indexing_its_array():
    rows, base = RowSource(Sliced(X), 0, len(X)).view(100, 400), X[100:400]
    assert rows.shape == base.shape
    assert rows.nbytes == base.nbytes
    numbers = RNG.integers(0, 300, size=200)
    for key in (
        np.s_[3:50, :], np.s_[5:5], np.s_[200::7, :], np.s_[:20, 2:4],
        numbers, numbers[:0],
    ):  # fmt: skip
        np.testing.assert_array_equal(rows[key], base[key])


@pytest.mark.parametrize(
    "other",
    [
        X, X.tolist(), X[:, 0], np.asmatrix(X), scipy.sparse.csr_array(X),
        scipy.sparse.coo_array(X), pd.DataFrame(X), pd.Series(Y),
        array_api_strict.asarray(X), Sliced(Y), None, "X",
    ],
    ids=lambda other: type(other).__name__,
)  # fmt: skip
def test_what_is_checked_otherwise_is_no_source(other):
    assert not is_source(other)


@pytest.mark.parametrize("library", ["h5py", "zarr"])
def test_files_have_the_fit_of_their_arrays(library, tmp_path):
    stored = pytest.importorskip(library)
    if library == "h5py":
        folder = stored.File(tmp_path / "data.h5", "w")
        save = folder.create_dataset
    else:
        folder = stored.group(tmp_path / "data.zarr")
        save = folder.create_array
    files = [
        save(name, data=data, chunks=(50, *data.shape[1:]))
        for name, data in {"X": X, "y": Y, "weight": WEIGHT}.items()
    ]
    for model in (
        SoftmaxRegression(n_jobs=2),
        SoftmaxRegressionCV([1e-2, 1], cv=3, scoring="f1_macro"),
    ):
        model.fit(X, Y, WEIGHT)
        other = clone(model).fit(*files)
        assert_same_fit(other, model)
        np.testing.assert_array_equal(other.predict(files[0]), model.predict(X))
        assert other.score(*files) == model.score(X, Y, WEIGHT)
    if library == "h5py":
        folder.close()


def test_labels_in_an_hdf5_file_are_numbers(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        names = file.create_dataset("y", data=np.array([b"a", b"b", b"c", b"d"])[Y])
        with pytest.raises(TypeError, match="represented as bytes"):
            SoftmaxRegression().fit(X, names)
        assert SoftmaxRegression().fit(X, names.asstr()[:]).classes_[0] == "a"


def test_the_example_of_the_documents_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("h5py")
    monkeypatch.undo()  # blocks of their own size
    monkeypatch.chdir(tmp_path)
    code, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(code, PAGE.name, "exec"), {})
    assert capsys.readouterr().out == "True (20000,)\n"
