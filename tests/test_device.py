"""`device="cuda"` with a stand-in for the GPU: another device of array-api-strict."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from softreg import (
    HierarchicalSoftmax,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    softmax_path,
)
from softreg import _streams as streams
from softreg._arrays import moved, place_of
from softreg.inference import marginal_effects, summary

DEVICE = array_api_strict.Device("device1")


@pytest.fixture(params=["resident", "streamed"])
def gpu(request, monkeypatch):
    """Make a GPU of the stand-in, with room for X or without."""

    def reference(device):
        return array_api_strict.empty(0, dtype=array_api_strict.float64, device=DEVICE)

    monkeypatch.setattr("softreg._parameters.gpu_reference", reference)
    room = 1 << 40 if request.param == "resident" else 0
    monkeypatch.setattr("softreg._rows.free_gpu_bytes", lambda array: room)
    return request.param


WINE = load_wine(return_X_y=True)
DIGITS = tuple(part[:500] for part in load_digits(return_X_y=True))
CASES = {
    "wine": (*WINE, {}),
    "two classes": (*load_breast_cancer(return_X_y=True), {}),
    "newton-cg": (*DIGITS, {"solver": "newton-cg", "C": 1e-2}),
    "lbfgs": (*WINE, {"solver": "lbfgs"}),
    "bytes": (DIGITS[0].astype(np.uint8), DIGITS[1], {"C": 1e-3}),
    "by columns": (np.asfortranarray(DIGITS[0]), DIGITS[1], {"C": 1e-3}),
    "float32": (DIGITS[0].astype(np.float32), DIGITS[1], {"C": 1e-3}),
    "wide": (DIGITS[0][:40, :], DIGITS[1][:40], {}),
    "names": (WINE[0], np.array(["a", "b", "c"])[WINE[1]], {"loss": "entmax15"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_fit_on_a_device_is_that_of_the_host(case, gpu, monkeypatch):
    X, y, params = CASES[case]
    monkeypatch.setattr("softreg._problem.block_rows", lambda *shape: len(X) // 5)
    model = SoftmaxRegression(**params).fit(X, y)
    other = clone(model).set_params(device="cuda").fit(X, y)
    for name in ("coef_", "intercept_", "classes_"):
        expected, got = getattr(model, name), getattr(other, name)
        assert type(got) is np.ndarray
        assert got.dtype == expected.dtype
        if expected.dtype.kind == "f":
            scale = np.abs(expected).max() + 1e-3
            tolerance = 1e-6 if case != "wide" else 2e-2
            np.testing.assert_allclose(got, expected, atol=tolerance * scale)
    assert other.optimality_gap_ <= 1e-4 * other.objective_
    for method in ("predict", "predict_proba", "decision_function", "proba_jacobian"):
        assert type(getattr(other, method)(X[:20])) is np.ndarray
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    other.sparsify()
    np.testing.assert_array_equal(other.predict(X), model.predict(X))


@pytest.mark.parametrize("covariance", ["model", "robust"])
def test_a_table_on_a_device_is_that_of_the_host(covariance, gpu, monkeypatch):
    X, y = WINE[0][:, [1, 2]], WINE[1]
    monkeypatch.setattr("softreg._problem.block_rows", lambda *shape: len(X) // 5)
    model = SoftmaxRegression(np.inf, tol=1e-9).fit(X, y)
    expected = summary(model, X, y, covariance=covariance)
    effects = marginal_effects(model, X)
    model.set_params(device="cuda")
    table = summary(model, X, y, covariance=covariance)
    np.testing.assert_allclose(table, expected, rtol=1e-8)
    np.testing.assert_allclose(marginal_effects(model, X), effects, rtol=1e-8)


def test_the_path_on_a_device(gpu):
    path = softmax_path(*WINE, Cs=3)
    other = softmax_path(*WINE, Cs=3, device="cuda")
    assert type(other.coefs) is np.ndarray
    np.testing.assert_allclose(other.coefs, path.coefs, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"scoring": "neg_log_loss", "selection": "1se"},
        {"scoring": "f1_macro", "refit": False, "class_weight": "balanced"},
        {
            "cv": [
                (np.arange(40, 178), np.arange(40)),
                (np.arange(130), np.arange(130, 178)),
            ]
        },
    ],
)
def test_a_search_on_a_device(params, gpu):
    model = SoftmaxRegressionCV([1e-3, 1.0], **params).fit(*WINE)
    other = clone(model).set_params(device="cuda").fit(*WINE)
    assert other.C_ == model.C_
    np.testing.assert_allclose(other.scores_, model.scores_)
    for name in ("coef_", "coefs_paths_"):
        assert type(getattr(other, name)) is np.ndarray
        np.testing.assert_allclose(
            getattr(other, name), getattr(model, name), atol=1e-4
        )
    assert other.score(*WINE) == pytest.approx(model.score(*WINE), rel=1e-6)


def test_robust_rounds_on_a_device(gpu):
    model = RobustSoftmaxRegression(SoftmaxRegression(1e-2)).fit(*WINE)
    other = RobustSoftmaxRegression(SoftmaxRegression(1e-2, device="cuda")).fit(*WINE)
    assert other.objective_ == pytest.approx(model.objective_, rel=1e-4)
    np.testing.assert_allclose(other.row_weights_, model.row_weights_, atol=1e-2)
    np.testing.assert_array_equal(other.predict(WINE[0]), model.predict(WINE[0]))


def test_a_tree_of_classes_on_a_device(gpu):
    model = HierarchicalSoftmax(SoftmaxRegression(1e-2)).fit(*DIGITS)
    other = HierarchicalSoftmax(SoftmaxRegression(1e-2, device="cuda")).fit(*DIGITS)
    assert other.tree_ == model.tree_
    proba = other.predict_proba(DIGITS[0])
    np.testing.assert_allclose(proba, model.predict_proba(DIGITS[0]), atol=1e-4)
    labels, best = other.predict_best(DIGITS[0], 2)
    for answer in (proba, labels, best, other.predict(DIGITS[0]), other.classes_):
        assert type(answer) is np.ndarray
    with pytest.raises(ValueError, match=r"device='cuda' places NumPy and SciPy input"):
        clone(other).fit(array_api_strict.asarray(DIGITS[0]), DIGITS[1])


def test_each_pass_sends_each_block_once(gpu, monkeypatch):
    sent = []

    class Counting(streams.PlainSender):
        def send(self, rows):
            sent.append(len(rows))
            return super().send(rows)

    monkeypatch.setattr(streams, "PlainSender", Counting)
    monkeypatch.setattr("softreg._problem.block_rows", lambda *shape: 60)
    X, y = WINE
    model = SoftmaxRegression(device="cuda", solver="lbfgs").fit(X, y)
    if gpu == "resident":
        assert not sent
        return
    assert len(set(sent)) == 2  # 45, 45, 45, 43 rows
    # Passes of samples gather their rows; the first sums have two of their own.
    passes = sum(sent) / len(X)
    assert passes <= model.history_["passes"][-1] + 4
    block = sent.index(43)
    assert sent[: 4 * (len(sent) // 4)] == (sent[:4]) * (len(sent) // 4)
    assert block == 3


def test_a_stream_reads_blocks_in_any_order():
    rows = [np.full((n, 2), float(n)) for n in (3, 2, 4)]
    stream = streams.RowStream(rows, array_api_strict.empty(0, device=DEVICE))
    for index in (0, 1, 2, 0, 2, 2, 1, 0):
        block = stream.read(index)
        assert place_of(block) == f"array_api_strict on {DEVICE}"
        assert block.shape == (len(rows[index]), 2)
        assert bool(array_api_strict.all(block == float(len(rows[index]))))
    single = streams.RowStream(rows[:1], np.empty(0))
    assert single.read(0) is rows[0]


def test_moving_leaves_alone_what_is_there():
    array = np.ones((2, 2))
    assert moved(array, np.empty(0)) is array


def test_a_gpu_that_is_not_there_is_refused():
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount():
            pytest.skip("there is one")
    except Exception:
        pass
    model = SoftmaxRegression(device="cuda")
    with pytest.raises(ValueError, match=r"device='cuda' needs CuPy and a CUDA GPU.*"):
        model.fit(*WINE)
    assert not hasattr(model, "coef_")


def test_arrays_elsewhere_take_no_device(gpu):
    X = array_api_strict.asarray(WINE[0])
    with pytest.raises(ValueError, match=r"device='cuda' places NumPy and SciPy input"):
        SoftmaxRegression(device="cuda").fit(X, WINE[1])
    assert SoftmaxRegression(device="cpu").fit(X, WINE[1]).converged_


class FakeGPU:
    """CuPy's streams as a list of what they were asked for, copies made at once."""

    def __init__(self):
        self.log = []
        self.cuda = self
        gpu = self

        class Stream:
            def __init__(self, name="kernels", non_blocking=False):
                self.name = "copies" if non_blocking else name

            def record(self):
                gpu.log.append(f"{self.name} record")
                return self

            def wait_event(self, event):
                gpu.log.append(f"{self.name} wait for {event.name}")

            def synchronize(self):
                gpu.log.append(f"host waits for {self.name}")

        class Buffer(np.ndarray):
            def set(self, rows, stream):
                gpu.log.append(f"copy {len(rows)} on {stream.name}")
                self[...] = rows

        self.Stream = Stream
        self.empty = lambda shape, dtype: np.empty(shape, dtype).view(Buffer)
        self.get_current_stream = Stream

    empty_pinned = staticmethod(np.empty)


def test_pinned_buffers_are_overwritten_only_when_free(monkeypatch):
    gpu = FakeGPU()
    monkeypatch.setitem(sys.modules, "cupy", gpu)
    monkeypatch.setitem(sys.modules, "cupyx", gpu)
    reference = SimpleNamespace(device=nullcontext())
    sender = streams.PinnedSender((3, 2), np.float32, reference)
    blocks = [np.full((3, 2), i, dtype=np.float32) for i in range(4)]
    arrivals = [sender.send(blocks[0]), sender.send(blocks[1])]
    assert gpu.log == [
        "kernels record", "copies wait for kernels", "copy 3 on copies",
        "copies record",
    ] * 2  # fmt: skip
    np.testing.assert_array_equal(arrivals[0](), blocks[0])
    assert gpu.log[-1] == "kernels wait for copies"
    gpu.log.clear()
    third = sender.send(blocks[2][:2])
    assert gpu.log[0] == "host waits for copies"  # its staging has been copied
    assert gpu.log.index("copies wait for kernels") < gpu.log.index("copy 2 on copies")
    np.testing.assert_array_equal(arrivals[1](), blocks[1])
    np.testing.assert_array_equal(third(), blocks[2][:2])
