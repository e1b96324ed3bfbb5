"""Ratios of times that the documentation states, each measured side by side.

    python benchmarks/ratios.py [threads dtypes small predict] [--data FOLDER]
                                [--rounds N] [--output FILE]

Both sides of a ratio run in turn in this process; the ratio is the median over the
rounds. Data sets that are not found are left out.

* threads: two threads against one, and whether their bits are the same
* dtypes: Fashion-MNIST as float64, float32 and uint8, and how near they end
* small: fits of small data against `LogisticRegression()`'s
* predict: predictions against LogisticRegression's, and their extra memory
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers import objective
from problems import DATA, NotAvailableError, load
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from softreg import SoftmaxRegression

CORES = len(os.sched_getaffinity(0))


def seconds(call: Callable[[], Any], repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def ratio(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    rounds: int,
    repeats: int = 1,
) -> float:
    """Return the median of theirs over ours: above 1 where ours is faster."""
    ours(), theirs()
    ratios = []
    for number in range(rounds):
        # Each side goes first as often as the other.
        if number % 2:
            own, other = seconds(ours, repeats), seconds(theirs, repeats)
        else:
            other, own = seconds(theirs, repeats), seconds(ours, repeats)
        ratios.append(other / own)
    return median(ratios)


def threads(options: argparse.Namespace) -> Iterator[str]:
    yield "| problem | one thread / two | same bits |"
    yield "|---|---|---|"
    for name in ("letter", "covtype20k", "isolet", "clinc150", "fashion_mnist"):
        X, y = load(name, options.data)
        max_iter = 3 if name == "fashion_mnist" else 200
        one, two = (
            SoftmaxRegression(n_jobs=n_jobs, max_iter=max_iter) for n_jobs in (1, 2)
        )
        faster = ratio(lambda: two.fit(X, y), lambda: one.fit(X, y), options.rounds)  # noqa: B023
        same = np.array_equal(one.coef_, two.coef_)
        yield f"| {name} | {faster:.2f} | {'yes' if same else 'no'} |"


def dtypes(options: argparse.Namespace) -> Iterator[str]:
    double, y = load("fashion_mnist", options.data)
    optimum = SoftmaxRegression(tol=1e-6).fit(double, y)
    lowest = optimum.objective_ - optimum.optimality_gap_
    byte = np.rint(double * 255).astype(np.uint8)
    # The same model: a pixel 255 times as large has a coefficient 255 times smaller.
    sides = {
        "float64": (SoftmaxRegression(), double),
        "float32": (SoftmaxRegression(), double.astype(np.float32)),
        "uint8": (SoftmaxRegression(C=255.0**-2), byte),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, (model, X) in sides.items():
            times[name].append(seconds(lambda: model.fit(X, y)))  # noqa: B023
    yield "| X | float64's seconds / its | gap to the float64 optimum | passes |"
    yield "|---|---|---|---|"
    for name, (model, _) in sides.items():
        faster = median(
            a / b for a, b in zip(times["float64"], times[name], strict=True)
        )
        coef = np.float64(model.coef_) * (255 if name == "uint8" else 1)
        gap = objective(double, y, coef, model.intercept_) / lowest - 1
        passes = model.history_["passes"][-1]
        yield f"| {name} | {faster:.2f} | {gap:.1e} | {passes:.0f} |"


def small(options: argparse.Namespace) -> Iterator[str]:
    yield "| data | LogisticRegression() / SoftmaxRegression() |"
    yield "|---|---|"
    for loader in (load_iris, load_wine, load_breast_cancer, load_digits):
        X, y = loader(return_X_y=True)
        faster = ratio(
            lambda: SoftmaxRegression().fit(X, y),  # noqa: B023
            lambda: LogisticRegression().fit(X, y),  # noqa: B023
            4 * options.rounds,
            repeats=3,
        )
        yield f"| {loader.__name__.removeprefix('load_')} | {faster:.2f} |"


def predict(options: argparse.Namespace) -> Iterator[str]:
    yield "| rows | method | LogisticRegression / ours | MB, ours | MB, theirs |"
    yield "|---" * 5 + "|"
    rng = np.random.default_rng(0)
    for shape, n_classes in (
        ((150, 4), 3), ((100_000, 20), 10), ((20_000, 784), 10), ((20_000, 50), 200),
    ):  # fmt: skip
        X, y = rng.normal(size=shape), np.arange(shape[0]) % n_classes
        few = slice(0, 2000)
        ours = SoftmaxRegression(C=1e-3).fit(X[few], y[few])
        theirs = LogisticRegression(C=1e-3).fit(X[few], y[few])
        for method in ("predict", "predict_proba"):
            own, other = getattr(ours, method), getattr(theirs, method)
            repeats = 100 if shape[0] < 1000 else 3
            faster = ratio(
                lambda: own(X),  # noqa: B023
                lambda: other(X),  # noqa: B023
                4 * options.rounds,
                repeats,
            )
            size = f"{shape[0]} x {shape[1]}, {n_classes} classes"
            memory = (
                f"{_extra_megabytes(own, X):.1f} | {_extra_megabytes(other, X):.1f}"
            )
            yield f"| {size} | {method} | {faster:.2f} | {memory} |"


def _extra_megabytes(call: Callable[[Any], np.ndarray], X: np.ndarray) -> float:
    """Return the peak of what a call allocates, its result left out."""
    tracemalloc.start()
    result = call(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return max(0, peak - result.nbytes) / 2**20


QUESTIONS = {"threads": threads, "dtypes": dtypes, "small": small, "predict": predict}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", help=", ".join(QUESTIONS))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    command = " ".join(["python", "benchmarks/ratios.py", *sys.argv[1:]])
    lines = [f"`{command}`, {CORES} cores."]
    print(lines[0])
    for name in options.questions or QUESTIONS:
        lines += ["", f"## {name}", ""]
        print(*lines[-3:], sep="\n")
        try:
            for line in QUESTIONS[name](options):
                print(line, flush=True)
                lines.append(line)
        except NotAvailableError as error:
            print(f"left out: {error}")
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
