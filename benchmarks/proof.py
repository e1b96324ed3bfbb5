"""What the proof costs: passes over X until a gap is true, and until it is proven.

    python benchmarks/proof.py [--data FOLDER] [--output FILE]

Newton-CG at C = 1 with `tol` 1e-3, 1e-4 and 1e-6, beside the passes after which the
last of these fits was that near in truth. With the bound of the library, and with one
that takes the same share from all classes (docs/mathematics.md). Embeddings as in
`gpu.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gpu import Place, Task, embeddings, fashion
from problems import DATA

from softreg import SoftmaxRegression
from softreg._losses import Softmax
from softreg.losses import Loss

TOLS = (1e-3, 1e-4, 1e-6)
SHAPES = [(20_000, 64, 20), (20_000, 64, 300), (20_000, 128, 1000)]


class Evenly(Softmax):
    """The softmax without a bound of what it costs to thin classes."""

    def thinning_cost(self, share: np.ndarray, proba: np.ndarray) -> np.ndarray:
        return Loss.thinning_cost(self, share, proba)


BOUNDS = {"each class its own": "softmax", "the same": Evenly()}


def passes(task: Task, loss: Any) -> Iterator[str]:
    """Yield the passes to each gap: in truth, and of the fit that proves it."""
    fits = [
        SoftmaxRegression(tol=tol, solver="newton-cg", loss=loss).fit(task.X, task.y)
        for tol in TOLS
    ]
    best = fits[-1]
    lowest = best.objective_ - best.optimality_gap_
    gaps = best.history_["objective"] / lowest - 1
    for tol, model in zip(TOLS, fits, strict=True):
        true = best.history_["passes"][np.flatnonzero(gaps <= tol)[0]]
        yield f"{true:.0f}, {model.history_['passes'][-1]:.0f}"


def rows(data: Path) -> Iterator[str]:
    heads = " | ".join(f"{tol:.0e}: true, proven" for tol in TOLS)
    yield f"| n x d, K | share taken | {heads} |"
    yield "|---|---|" + "---|" * len(TOLS)
    host = Place("numpy", np, "CPU")
    tasks = [fashion(host, 1 / 3, data)]
    tasks += [embeddings(host, *shape) for shape in SHAPES]
    for task in tasks:
        shape = " x ".join(map(str, task.X.shape))
        for name, loss in BOUNDS.items():
            cells = " | ".join(passes(task, loss))
            yield f"| {shape}, {task.n_classes} | {name} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    lines = []
    for line in rows(options.data):
        print(line, flush=True)
        lines.append(line)
    if options.output:
        head = "Written by `python benchmarks/proof.py`.\n\n"
        options.output.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
