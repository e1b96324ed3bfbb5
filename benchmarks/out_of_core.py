"""A fit of more rows than memory holds, under a limit that the system enforces.

    python benchmarks/out_of_core.py [--gigabytes 20] [--limit 1] [--kind memmap]
                                     [--columns 1000] [--dtype float32] [--max-iter 1]

X is a file of so many gigabytes that takes next to no disk: a sparse file, or an HDF5
file or zarr folder most of whose chunks were never written. One row in 4000 holds
numbers, the others zeros; labels are random. From before the labels are drawn until
the last prediction the process may have no more than the limit in memory that no file
backs (RLIMIT_DATA): its libraries, labels and weights included. What it cannot have
it is refused, and the fit fails.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from softreg import SoftmaxRegression

CHUNK_ROWS = 256
WRITTEN_EVERY = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--limit", type=float, default=1.0, help="gigabytes")
    parser.add_argument("--kind", choices=sorted(KINDS), default="memmap")
    parser.add_argument("--columns", type=int, default=1000)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-iter", type=int, default=1)
    args = parser.parse_args()
    row_bytes = args.columns * np.dtype(args.dtype).itemsize
    shape = int(args.gigabytes * 1e9) // row_bytes, args.columns
    with tempfile.TemporaryDirectory() as folder:
        X = KINDS[args.kind](Path(folder), shape, np.dtype(args.dtype))
        rng = np.random.default_rng(0)
        for row in range(0, shape[0], WRITTEN_EVERY):
            X[row : row + 1] = rng.integers(0, 3, size=(1, args.columns))
        resource.setrlimit(resource.RLIMIT_DATA, (int(args.limit * 1e9),) * 2)
        print(f"{args.kind}: {shape[0]} x {shape[1]} {args.dtype}, "
              f"{args.gigabytes:g} GB, limit {args.limit:g} GB")  # fmt: skip
        report(X, rng.integers(0, 3, size=shape[0], dtype=np.uint8), args.max_iter)


def report(X: Any, y: np.ndarray, max_iter: int) -> None:
    """Fit and predict, and print what it took."""
    model = SoftmaxRegression(max_iter=max_iter)
    peak, done = [anonymous()], threading.Event()

    def poll() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous())

    poller = threading.Thread(target=poll, daemon=True)
    poller.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        seconds = timed(lambda: model.fit(X, y))
    passes = model.history_["passes"][-1]
    print(f"fit: {passes:g} passes, {seconds:.0f} s")
    print(f"predict: {timed(lambda: model.predict(X)):.0f} s")
    done.set()
    poller.join()
    print(f"peak: {peak[0]:.2f} GB, of the process as a whole")


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def anonymous() -> float:
    """Return the gigabytes of this process that no file backs."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024 / 1e9


def memory_map(folder: Path, shape: tuple[int, int], dtype: np.dtype) -> Any:
    return np.memmap(folder / "X", dtype=dtype, mode="w+", shape=shape)


def hdf5(folder: Path, shape: tuple[int, int], dtype: np.dtype) -> Any:
    import h5py

    chunks = min(CHUNK_ROWS, shape[0]), shape[1]
    file = h5py.File(folder / "X.h5", "w")
    return file.create_dataset("X", shape=shape, dtype=dtype, chunks=chunks)


def zarr(folder: Path, shape: tuple[int, int], dtype: np.dtype) -> Any:
    import zarr

    chunks = min(CHUNK_ROWS, shape[0]), shape[1]
    return zarr.create_array(folder / "X", shape=shape, dtype=dtype, chunks=chunks)


KINDS = {"memmap": memory_map, "hdf5": hdf5, "zarr": zarr}

if __name__ == "__main__":
    main()
