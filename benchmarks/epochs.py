"""How near the minimum minibatch and other solvers are after so many iterations.

    python benchmarks/epochs.py [--data FOLDER] [--output FILE]

An iteration of minibatch is an epoch: every row is visited once.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from problems import DATA, load
from sklearn.exceptions import ConvergenceWarning

from softreg import SoftmaxRegression
from softreg.solvers import MiniBatch

PROBLEMS = ("letter", "isolet", "fashion_mnist")
SOLVERS = {
    "minibatch": "minibatch",
    "minibatch of 256 rows": MiniBatch(batch_size=256),
    "newton-cg": "newton-cg",
    "lbfgs": "lbfgs",
    "gd": "gd",
}
COUNTS = (1, 2, 3, 5, 8)


def rows(name: str, data: Path) -> Iterator[str]:
    """Yield a line of the table for each solver."""
    X, y = load(name, data)
    X = X.astype(np.float32)
    least = SoftmaxRegression(tol=1e-7).fit(X, y).objective_
    for label, solver in SOLVERS.items():
        model = SoftmaxRegression(solver=solver, max_iter=max(COUNTS), random_state=0)
        history = model.fit(X, y).history_
        values, passes = history["objective"], history["passes"]
        last = len(values) - 1
        gaps = [max(values[min(count, last)] / least - 1, 0) for count in COUNTS]
        cells = " | ".join(f"{gap:.0e}" for gap in gaps)
        yield f"| {name} | {label} | {cells} | {passes[min(5, last)]:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    counts = " | ".join(f"after {count}" for count in COUNTS)
    lines = [
        "True relative gap after so many iterations, C = 1, and the passes over X that "
        "five of them computed.",
        "",
        f"| problem | solver | {counts} | passes |",
        "|" + "---|" * (len(COUNTS) + 3),
    ]
    for name in PROBLEMS:
        lines += rows(name, options.data)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
