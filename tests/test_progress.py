"""verbose=1: a bar on a terminal, lines elsewhere, nothing in workers."""

import io
import math
import re
import sys
from contextlib import contextmanager

import pytest
from joblib import Parallel, delayed
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV

from softreg import (
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    softmax_path,
)
from softreg._progress import Bar, duration, line_of
from softreg.solvers._loop import Record

X, Y = load_wine(return_X_y=True)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True

    def lines(self):
        """Return what stays on the screen."""
        return [line.split("\x1b[K")[-1] for line in self.getvalue().split("\n")[:-1]]


@contextmanager
def terminal(columns=200):
    """Stand in for a terminal; pytest's own stand-in comes after all fixtures."""
    stream = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setenv("COLUMNS", str(columns))
        yield stream


def row(iteration, gap, seconds, objective=1.0, gradient=1.0):
    return Record(
        0, iteration, objective, gradient, gap, 10.0 * iteration, seconds, "float64"
    )


def test_a_short_fit_leaves_one_line():
    with terminal() as stream:
        model = SoftmaxRegression(verbose=1).fit(X, Y)
    (line,) = stream.lines()
    assert stream.getvalue().count("\r") == 1
    assert f"iteration {model.n_iter_}  objective {model.objective_:.6g}" in line
    assert f"proven gap {model.optimality_gap_:.1e}" in line
    assert line.startswith("█" * 12 + " ")
    assert "passes/s" in line


def test_a_long_fit_is_drawn_as_it_goes():
    stream = Terminal()
    bar = Bar(1e-4, stream)
    for i in range(9):
        bar(row(i, 10.0 ** (-i / 2), seconds=0.5 * i), None)
        assert ("\r" in stream.getvalue()) == (i >= 2)
    bar.close()
    shown = stream.getvalue().split("\r\x1b[K")[1:]
    assert len(shown) <= 8
    (line,) = stream.lines()
    assert line.startswith("█" * 12 + " ")


def test_it_says_how_far_it_is_and_what_is_left():
    rows = [row(i, 10.0 ** (-i / 2), seconds=0.5 * i) for i in range(5)]
    line = line_of(rows, tol=1e-4)
    # Half of four powers of ten in two seconds: two more seconds, 20 passes each.
    assert line.startswith("█" * 6 + "░" * 6 + "  ")
    assert "2.0 s left" in line
    assert "20 passes/s" in line
    assert "iteration 4  objective 1  proven gap 1.0e-02" in line


def test_without_a_proof_it_goes_by_the_gradient():
    rows = [row(i, math.inf, seconds=i, gradient=10.0**-i) for i in range(3)]
    line = line_of(rows, tol=1e-4)
    assert line.startswith("█" * 6 + "░" * 6 + "  ")
    assert "gradient 1.0e-02" in line
    assert "gap" not in line
    assert "2.0 s left" in line


@pytest.mark.parametrize("tol", [0.0, 1e-3])
@pytest.mark.parametrize("gaps", [[1.0], [1.0, 1.0], [1e-2, 2.0], [1.0, 0.0], [0, 0]])
def test_odd_ways_to_go_are_drawn(gaps, tol):
    rows = [row(i, gap, seconds=i) for i, gap in enumerate(gaps)]
    line = line_of(rows, tol)
    assert re.match("[█░]{12}  ", line)
    assert "nan" not in line
    assert "inf" not in line


def test_a_narrow_terminal_is_not_overrun():
    with terminal(columns=40) as stream:
        SoftmaxRegression(verbose=1).fit(X, Y)
    (line,) = stream.lines()
    assert len(line) <= 39


@pytest.mark.parametrize(
    ("room", "there", "gone"),
    [
        (99, ["objective", "passes/s"], []),
        (79, ["iteration 4", "proven gap 1.0e-02"], ["passes/s"]),
        (39, [], ["passes/s", "objective"]),
    ],
)
def test_time_is_the_last_to_go(room, there, gone):
    rows = [row(i, 10.0 ** (-i / 2), 0.5 * i, math.pi) for i in range(5)]
    line = line_of(rows, 1e-4, room)
    assert len(line) <= room
    assert line.endswith("  1.5 s left")
    assert all(text in line for text in there)
    assert not any(text in line for text in gone)


def test_a_fit_slower_than_the_last_leaves_a_line_of_its_own():
    with terminal() as stream:
        bar = Bar(1e-4, stream)
        for slow in (1, 3):
            for i in range(3):
                bar(row(i, 10.0**-i, slow * (i + 1) / 10, 1.0), None)
        bar.close()
    assert len(stream.lines()) == 2


def test_every_fit_of_a_search_leaves_a_line():
    with terminal() as stream:
        softmax_path(X, Y, Cs=[0.01, 1.0], verbose=1)
    assert len(stream.lines()) == 2
    with terminal() as stream:
        SoftmaxRegressionCV(Cs=[0.01, 1.0], verbose=1, cv=3).fit(X, Y)
    lines = stream.lines()
    assert len(lines) == 3
    assert lines[-1].startswith("█")


@pytest.mark.parametrize(
    "model",
    [
        RobustSoftmaxRegression(SoftmaxRegression(verbose=1)),
        LargeMarginSoftmaxRegression(mu_min=30.0, tol=1e-2, verbose=1),
    ],
)
def test_every_round_leaves_a_line(model):
    with terminal() as stream:
        model.fit((X - X.mean(axis=0)) / X.std(axis=0), Y)
    lines = stream.lines()
    assert len(lines) >= 2
    assert all(re.match("[█░]{12}  iteration", line) for line in lines)


def test_an_error_ends_the_line():
    class Breaks:
        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            raise KeyboardInterrupt

    model = SoftmaxRegression(verbose=1).set_callbacks(Breaks())
    with terminal() as stream, pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert stream.getvalue().endswith("\n")


def fit_loudly():
    SoftmaxRegression(verbose=1).fit(X, Y)
    SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=3, verbose=1).fit(X, Y)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_are_quiet(backend, capfd):
    Parallel(2, backend=backend)(delayed(fit_loudly)() for _ in range(2))
    assert capfd.readouterr() == ("", "")
    fit_loudly()
    assert capfd.readouterr().out


def test_a_search_in_workers_is_quiet(capfd):
    search = GridSearchCV(SoftmaxRegression(verbose=1), {"C": [0.1, 1]}, n_jobs=2)
    search.fit(X, Y)
    out = capfd.readouterr().out.splitlines()
    # Only the refit, which is done here.
    assert len(out) == len(search.best_estimator_.history_["objective"])


class Sink:
    """As little of a stream as `print` needs."""

    def __init__(self):
        self.written = ""

    def write(self, text):
        self.written += text

    def flush(self):
        pass


def test_any_stream_will_do(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        SoftmaxRegression(verbose=1).fit(X, Y)
        sink = Sink()
        patch.setattr(sys, "stdout", sink)
        model = SoftmaxRegression(verbose=1).fit(X, Y)
    assert sink.written.count("\n") == len(model.history_["objective"])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0.2 s"), (90, "1.5 min"), (9000, "2.5 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_will_do(encoding, monkeypatch):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    stream.isatty = lambda: True
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert SoftmaxRegression(verbose=1).fit(X, Y).converged_
    shown = written.getvalue().decode(encoding)
    bar = ("█" if encoding == "utf-8" else "#") * 12
    assert f"\x1b[K{bar}  iteration" in shown
