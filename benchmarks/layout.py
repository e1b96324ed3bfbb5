"""Time one pass with scores row-major, (rows, K), and class-major, (K, rows).

    python benchmarks/layout.py

The measurements behind the layout of softreg's blocks, and behind what `_arrays` does
otherwise than the array API: `keep_freed_memory` (arithmetic in memory fresh from the
system or kept by the allocator), `product_with_rows` (class-major scores as W @ X.T, or
as a contiguous (X @ W.T).T) and `product` (two threads multiply to a thin result by @
or by dot). Prints ratios of best times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from softreg._arrays import keep_freed_memory

REPEATS = 15
N_ROWS = 16_384
SHAPES = ((10, 784, 512), (26, 617, 1024), (26, 16, 4096), (7, 54, 4096))


def row_major(X: np.ndarray, W: np.ndarray, y: np.ndarray, size: int) -> None:
    index = np.arange(size)
    for start in range(0, len(X), size):
        rows, codes = X[start : start + size], y[start : start + size]
        z = rows @ W.T
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        z[index, codes] -= 1
        rows.T @ z


def class_major(X: np.ndarray, W: np.ndarray, y: np.ndarray, size: int) -> None:
    index = np.arange(size)
    for start in range(0, len(X), size):
        rows, codes = X[start : start + size], y[start : start + size]
        z = W @ rows.T
        z -= z.max(axis=0)
        np.exp(z, out=z)
        z /= z.sum(axis=0)
        z[codes, index] -= 1
        z @ rows


def from_the_right(X: np.ndarray, W: np.ndarray, y: np.ndarray, size: int) -> None:
    for start in range(0, len(X), size):
        np.dot(W, X[start : start + size].T)


def from_the_left(X: np.ndarray, W: np.ndarray, y: np.ndarray, size: int) -> None:
    for start in range(0, len(X), size):
        np.ascontiguousarray(np.dot(X[start : start + size], W.T).T)


def in_two_threads(multiply: Callable[..., np.ndarray]) -> None:
    """Multiply in two threads to a result of 26 x 16."""
    left, rows = np.ones((26, N_ROWS // 2)), np.ones((N_ROWS // 2, 16))

    def work(_: int) -> None:
        for _ in range(20):
            multiply(left, rows)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))


def temporaries(coef: np.ndarray) -> None:
    doubled = 2 * (coef + 1)
    (doubled - coef) ** 2


def best(function: Callable[..., None], *args: object) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function(*args)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    rng = np.random.default_rng(0)
    coef = np.ones((150, 5000))
    fresh = best(temporaries, coef)
    keep_freed_memory()
    print(
        f"arithmetic in fresh memory / in kept: {fresh / best(temporaries, coef):.2f}"
    )
    print(
        f"{'dtype':>8} {'K':>4} {'d':>4} {'rows':>5}  row-major / class-major  "
        "W @ X.T / (X @ W.T).T"
    )
    for dtype in (np.float64, np.float32):
        for n_classes, d, size in SHAPES:
            X = rng.normal(size=(N_ROWS, d)).astype(dtype)
            W = rng.normal(size=(n_classes, d)).astype(dtype)
            y = rng.integers(0, n_classes, N_ROWS)
            with threadpool_limits(1):
                layouts, orders = (
                    best(one, X, W, y, size) / best(other, X, W, y, size)
                    for one, other in (
                        (row_major, class_major), (from_the_right, from_the_left),
                    )
                )  # fmt: skip
            print(
                f"{dtype.__name__:>8} {n_classes:4} {d:4} {size:5}  {layouts:.2f}"
                f"{orders:25.2f}"
            )

    with threadpool_limits(1):
        ratio = best(in_two_threads, np.matmul) / best(in_two_threads, np.dot)
    print(f"two threads, 26 x 16 results: @ / dot {ratio:.2f}")


if __name__ == "__main__":
    main()
