"""What the proof costs: passes over X until a gap is true, and until it is proven.

    python benchmarks/proof.py [--data FOLDER] [--output FILE]

Newton-CG at C = 1 to a proven relative gap of 1e-6: with the bound of the library, and
with one that takes the same share from all classes (docs/mathematics.md). Embeddings as
in `gpu.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gpu import Place, embeddings, fashion
from problems import DATA

from softreg import SoftmaxRegression
from softreg._losses import Softmax
from softreg.losses import Loss

GAP = 1e-4
SHAPES = [(20_000, 64, 20), (20_000, 64, 300), (20_000, 128, 1000)]


class Evenly(Softmax):
    """The softmax without a bound of what it costs to thin classes."""

    def thinning_cost(self, share: np.ndarray, proba: np.ndarray) -> np.ndarray:
        return Loss.thinning_cost(self, share, proba)


BOUNDS = {"each class its own": "softmax", "the same": Evenly()}


def first(gaps: np.ndarray, passes: np.ndarray) -> int:
    return round(float(passes[np.flatnonzero(gaps <= GAP)[0]]))


def rows(data: Path) -> Iterator[str]:
    yield (
        f"| n x d, K | share taken | passes to a true gap of {GAP:.0e} | "
        "until it is proven | until 1e-6 is | of them in float32 |"
    )
    yield "|---|---|---|---|---|---|"
    host = Place("numpy", np, "CPU")
    tasks = [fashion(host, 1 / 3, data)]
    tasks += [embeddings(host, *shape) for shape in SHAPES]
    for task in tasks:
        for name, loss in BOUNDS.items():
            model = SoftmaxRegression(tol=1e-6, solver="newton-cg", loss=loss)
            model.fit(task.X, task.y)
            history = model.history_
            values, passes = history["objective"], history["passes"]
            lowest = model.objective_ - model.optimality_gap_
            single = passes[history["precision"] == "float32"]
            shape = " x ".join(map(str, task.X.shape))
            yield (
                f"| {shape}, {task.n_classes} | {name} | "
                f"{first(values / lowest - 1, passes)} | "
                f"{first(history['optimality_gap'] / values, passes)} | "
                f"{round(float(passes[-1]))} | "
                f"{round(float(single[-1])) if len(single) else 0} |"
            )


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
