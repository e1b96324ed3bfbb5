"""Ctrl-C leaves an estimator as it was, and the process able to go on."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from threadpoolctl import threadpool_info

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
)
from softreg._blocks import Engine, LocalBlocks
from softreg.solvers import SOLVERS

X, Y = load_wine(return_X_y=True)
Z = (X - X.mean(axis=0)) / X.std(axis=0)
MODELS = [
    *(SoftmaxRegression(solver=solver, tol=1e-3) for solver in SOLVERS),
    SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=3),
    RobustSoftmaxRegression(),
    LargeMarginSoftmaxRegression(mu_min=30.0, tol=1e-2),
    HierarchicalSoftmax(tree=[[0, 1], 2]),
]
IDS = [f"{type(m).__name__}-{getattr(m, 'solver', '')}" for m in MODELS]


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that has some pass over the data interrupted."""
    whole = LocalBlocks.reduce

    def at(number):
        count = 0

        def reduce(blocks, *args, **kwargs):
            nonlocal count
            count += 1
            if count == number:
                raise KeyboardInterrupt
            return whole(blocks, *args, **kwargs)

        monkeypatch.setattr(LocalBlocks, "reduce", reduce)
        return lambda: count

    yield at
    monkeypatch.undo()


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_an_interrupt_leaves_the_last_fit(model, interrupt):
    fresh, fitted = clone(model), clone(model).fit(Z, Y)
    before = vars(fitted).copy()
    passes = interrupt(0)
    clone(model).fit(Z, Y)
    n_passes = passes()
    for number in sorted({1, 2, n_passes // 2, n_passes - 1, n_passes}):
        for estimator in (fresh, fitted):
            interrupt(number)
            with pytest.raises(KeyboardInterrupt):
                estimator.fit(Z, Y)
        assert vars(fresh) == fresh.get_params(deep=False)
        assert vars(fitted).keys() == before.keys()
        assert all(vars(fitted)[name] is value for name, value in before.items())
    interrupt(0)
    np.testing.assert_array_equal(fresh.fit(Z, Y).predict(Z), fitted.predict(Z))


def test_an_interrupt_leaves_the_last_partial_fit(interrupt):
    model = SoftmaxRegression().partial_fit(Z, Y, classes=[0, 1, 2])
    before = vars(model).copy()
    passes = interrupt(0)
    clone(model).partial_fit(Z, Y, classes=[0, 1, 2])
    for number in range(1, passes() + 1):
        interrupt(number)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(Z, Y)
        assert all(vars(model)[name] is value for name, value in before.items())


PROGRAM = """
import sys, time
import numpy as np
from softreg import SoftmaxRegression
rng = np.random.default_rng(0)
X = rng.normal(size=(40_000, 200))
y = (X[:, :30] + rng.gumbel(size=(40_000, 30))).argmax(axis=1)
model = SoftmaxRegression(tol=1e-4).fit(X[:2000], y[:2000])
before = dict(vars(model))
model.set_params(solver="lbfgs", tol=0.0, max_iter=10**6, n_jobs=2)
print("ready", flush=True)
start = time.monotonic()
try:
    model.fit(X, y)
except KeyboardInterrupt:
    took = time.monotonic() - start
assert all(vars(model)[n] is v for n, v in before.items() if n.endswith("_"))
model.set_params(solver="auto", tol=1e-4).fit(X[:2000], y[:2000])
assert model.converged_
print("mended", took)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_a_signal_ends_a_fit_of_several_threads():
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
    )
    guard = threading.Timer(120, child.kill)
    guard.start()
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.7)
        child.send_signal(signal.SIGINT)
        said = child.communicate()[0]
    finally:
        guard.cancel()
    assert child.returncode == 0
    assert said.startswith("mended ")
    assert float(said.split()[1]) < 10


def test_an_interrupt_is_not_kept_waiting_by_other_threads():
    begun = []

    def block(index):
        begun.append(index)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.01)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Engine(2) as engine:
        engine.map(block, 1000)
    assert time.monotonic() - start < 5
    assert len(begun) < 10


def test_an_interrupt_on_the_way_in_leaves_blas_as_it_was(monkeypatch):
    def broken(n_threads):
        raise KeyboardInterrupt

    before = threadpool_info()
    with monkeypatch.context() as patch:
        patch.setattr("softreg._blocks.ThreadPoolExecutor", broken)
        with pytest.raises(KeyboardInterrupt):
            SoftmaxRegression(n_jobs=2).fit(X, Y)
    assert threadpool_info() == before
