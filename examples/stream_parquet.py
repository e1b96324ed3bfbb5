"""More rows than memory: a Parquet file in batches, through a pipeline
====================================================================

The system refuses this process more memory than the cap, a fraction of what the file
holds. Batch by batch is predicted and then learned, so that the accuracy beside the bar
is that on rows not seen before. The columns come in units from 1e-4 to 1e4 and nothing
scales them: `partial_fit` takes Newton steps, to which units are all the same. Halfway
the pipeline is pickled; what goes on from the pickle ends with the same bits. Needs
pandas and pyarrow. Run it, in a quarter of a minute, with::

    python examples/stream_parquet.py [--rows N]
"""

import argparse
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

from softreg import SoftmaxRegression

CAP = 50_000_000  # bytes
BATCH = 5000  # rows; as many make a row group
UNITS = np.logspace(-4, 4, 40)
CITIES = [f"city {i:02}" for i in range(20)]
CLASSES = ["bike", "bus", "car"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=500_000)
    n_groups = max(parser.parse_args().rows // BATCH, 10)
    pa.set_memory_pool(pa.system_memory_pool())  # others set more aside than is used
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trips.parquet"
        write(path, n_groups)
        # Row groups that are buffered ahead would be kept; threads want memory, too.
        with pq.ParquetFile(path, pre_buffer=False) as file, threadpool_limits(1):
            learn(file)


def write(path: Path, n_groups: int) -> None:
    """Write rows whose label depends on the city and on every other column."""
    rng = np.random.default_rng(0)
    coef = rng.normal(scale=0.3, size=(len(UNITS), len(CLASSES)))
    of_city = rng.normal(size=(len(CITIES), len(CLASSES)))
    writer = None
    for _ in range(n_groups):
        x, city = rng.normal(size=(BATCH, len(UNITS))), rng.integers(20, size=BATCH)
        scores = x @ coef + of_city[city] + rng.gumbel(size=(BATCH, len(CLASSES)))
        columns = {f"x{j}": unit * x[:, j] for j, unit in enumerate(UNITS)}
        columns["city"] = np.take(CITIES, city)
        columns["goes by"] = np.take(CLASSES, scores.argmax(axis=1))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def learn(file: pq.ParquetFile) -> None:
    n = file.num_row_groups
    half, end = n // 2, n - n // 10  # the last tenth is held out
    size = sum(file.metadata.row_group(i).total_byte_size for i in range(n))
    print(f"the file holds {size / 1e6:.0f} MB")
    frame, y = next(batches(file, range(1)))
    columns = make_column_transformer(
        (OneHotEncoder(categories=[CITIES], sparse_output=False), ["city"]),
        remainder="passthrough",
    )
    pipeline = make_pipeline(columns, SoftmaxRegression())
    pipeline[-1].partial_fit(columns.fit_transform(frame), y, classes=CLASSES)
    before = capped()  # after a first batch: BLAS now has its buffers
    alone = clone(pipeline).fit(frame, y)
    seen = stream("first half", pipeline, file, range(1, half))
    saved = pickle.dumps(pipeline)
    seen += stream("second half", pipeline, file, range(half, end))
    print(f"accuracy on each batch before it was learned: {np.mean(seen):.4f}")

    resumed = pickle.loads(saved)
    stream("resumed", resumed, file, range(half, end))
    same = np.array_equal(resumed[-1].coef_, pipeline[-1].coef_)
    print(f"resumed from a pickle of {len(saved) / 1e3:.0f} kB, same bits: {same}")

    print("held-out accuracy:")
    for name, fitted in (("one batch, fit", alone), ("all batches", pipeline)):
        scores = [fitted.score(*batch) for batch in batches(file, range(end, n))]
        print(f"  {name:16}{np.mean(scores):.4f}")
    if before is not None:
        print(f"memory taken at the peak: {(status('VmHWM') - before) / 1e6:.0f} MB")
        try:
            file.read()
        except MemoryError:
            print("the file read as a whole: refused")


def stream(name: str, pipeline: Pipeline, file: Any, groups: range) -> list[float]:
    """Predict each batch, then learn it; return how often that was right, by batch."""
    scores, start = [], time.perf_counter()
    for frame, y in batches(file, groups):
        X = pipeline[:-1].transform(frame)  # a Pipeline has no partial_fit of its own
        scores.append(pipeline[-1].score(X, y))
        pipeline[-1].partial_fit(X, y)
        share = len(scores) / len(groups)
        speed = len(scores) * BATCH / (time.perf_counter() - start)
        bar = f"\r{name:12}[{'#' * int(30 * share):30}] {share:4.0%}"
        so_far = f"{speed:9,.0f} rows/s  accuracy {np.mean(scores):.3f}"
        print(bar, so_far, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return scores


def batches(file: pq.ParquetFile, groups: range) -> Iterator[tuple[Any, Any]]:
    """Yield the rows of each row group, and their labels."""
    for batch in file.iter_batches(BATCH, row_groups=groups, use_threads=False):
        frame = batch.to_pandas()
        yield frame, frame.pop("goes by")


def capped() -> int | None:
    """Cap what memory may still be taken; return what is taken now, None without."""
    try:
        import resource

        limit = status("VmData") + CAP
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    except (ImportError, OSError, ValueError) as error:
        print(f"no cap, which needs Linux ({error})")
        return None
    print(f"the process may take {CAP / 1e6:.0f} MB more than it has")
    return status("VmRSS")


def status(key: str) -> int:
    """Return the bytes that Linux reports of this process under a name."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(row.split()[1]) for row in lines if row.startswith(key))


if __name__ == "__main__":
    main()
