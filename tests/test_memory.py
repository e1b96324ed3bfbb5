"""X is read as it lies: what a fit adds to the memory of the process stays small.

Each case runs in a process of its own, with the data loaded from a file: what counts is
the peak of its memory above that of the moment before the call.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc"
)

PRELUDE = """
import threading, time, warnings
import numpy as np, scipy.sparse
from softreg import SoftmaxRegression

warnings.simplefilter("ignore")


def anonymous():
    "Megabytes of this process that no file backs."
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024


def peak_above_now(call):
    peak, done = [anonymous()], threading.Event()
    before = peak[0]

    def poll():
        while not done.wait(0.001):
            peak[0] = max(peak[0], anonymous())

    poller = threading.Thread(target=poll)
    poller.start()
    call()
    done.set()
    poller.join()
    return max(peak[0], anonymous()) - before


# Whatever is loaded or allocated once is there before the count begins.
warm = np.random.default_rng(0).normal(size=(3000, 5))
for rows in (warm, warm.astype(np.float32), scipy.sparse.csr_array(warm)):
    SoftmaxRegression(n_jobs=2).fit(rows, np.arange(3000) % 3).predict_proba(rows)
"""


def peak_megabytes(body, *paths):
    """Run a body that sets `call` in a process of its own; megabytes that it adds."""
    script = PRELUDE + textwrap.dedent(body) + "\nprint(peak_above_now(call))\n"
    process = subprocess.run(
        [sys.executable, "-c", script, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return float(process.stdout)


def images(rng, n_rows, n_pixels=784, n_classes=10):
    """Return uint8 rows with the zeros and the ranks of images, and labels."""
    y = rng.integers(0, n_classes, size=n_rows).astype(np.uint8)
    strokes = rng.normal(size=(40, n_pixels)).astype(np.float32)
    strokes *= rng.random(n_pixels) < 0.8
    centres = rng.normal(size=(n_classes, 40)).astype(np.float32)
    X = np.empty((n_rows, n_pixels), dtype=np.uint8)
    for start in range(0, n_rows, 2000):
        codes = y[start : start + 2000]
        factors = centres[codes] + rng.normal(size=(len(codes), 40)).astype(np.float32)
        pixels = 40 * factors @ strokes - 100
        X[start : start + 2000] = np.clip(pixels, 0, 255)
    return X, y


@pytest.fixture(scope="module")
def image_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    X, y = images(np.random.default_rng(0), 60000)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    return folder / "X.npy", folder / "y.npy"


LOAD = """
import sys
X, y = np.load(sys.argv[1]), np.load(sys.argv[2])
"""
MAP = LOAD.replace("np.load(sys.argv[1])", "np.load(sys.argv[1], mmap_mode='r')")
SPARSE = """
rng = np.random.default_rng(0)
n, d, row = 1_000_000, 200, 10
values = rng.normal(size=n * row)
X = scipy.sparse.csr_array(
    (values, rng.integers(0, d, n * row, dtype=np.int32), np.arange(n + 1) * row),
    shape=(n, d),
)
y = (values[::row] > 0) + (values[1::row] > 0)
"""
MANY_CLASSES = """
rng = np.random.default_rng(0)
y = np.arange({rows}) % 500
X = rng.normal(size=(500, 4))[y] + rng.normal(size=({rows}, 4))
"""
FIT = """
model = SoftmaxRegression(max_iter={}, solver={!r}, n_jobs=2)
call = lambda: model.fit(X, y)
"""


@pytest.fixture(scope="module")
def mapped_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mapped")
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(
        folder / "X.npy", mode="w+", dtype=float, shape=(100000, 200)
    )
    for start in range(0, 100000, 10000):
        X[start : start + 10000] = rng.normal(size=(10000, 200))
    scores = X[:, :4] + rng.gumbel(size=(100000, 4))
    np.save(folder / "y.npy", scores.argmax(axis=1))
    return folder / "X.npy", folder / "y.npy"


@pytest.mark.slow
def test_the_measure_sees_a_copy_of_any_kind(image_files):
    # 47 MB: what the tests below would miss, were the measure blind.
    call = "call = lambda: X.copy().sum()"
    assert peak_megabytes(LOAD + call, *image_files) > 40
    assert peak_megabytes(MAP + call, *image_files) > 40


def test_a_fit_of_bytes_makes_no_copy_of_them(image_files):
    # float32 would take 188 MB.
    assert peak_megabytes(LOAD + FIT.format(1, "auto"), *image_files) < 130


@pytest.mark.slow
def test_prediction_of_bytes_makes_no_copy_of_them(image_files):
    body = """
    model = SoftmaxRegression(max_iter=1).fit(X[:1000], y[:1000])
    call = lambda: (model.predict(X), model.predict_proba(X))
    """
    assert peak_megabytes(LOAD + textwrap.dedent(body), *image_files) < 30


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
def test_longer_fits_of_bytes_make_no_copy_of_them(image_files, solver):
    assert peak_megabytes(LOAD + FIT.format(20, solver), *image_files) < 200


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
def test_a_fit_of_float32_makes_no_copy_of_it(image_files, layout, solver):
    body = f"X = np.asarray(X, dtype=np.float32, order={layout!r})\n"
    assert peak_megabytes(LOAD + body + FIT.format(2, solver), *image_files) < 130


@pytest.mark.slow
@pytest.mark.parametrize(("times", "most"), [(1, 300), (3, 225)])
def test_a_search_takes_little_beside_x(image_files, times, most):
    # 376 MB or 1.1 GB, of which 225 are a fifth; each fold's rows would take half. Of
    # the smaller the scores are kept too, as they are below 64 MB.
    body = """
    import warnings
    from softreg import SoftmaxRegressionCV

    X, y = np.tile(X, (TIMES, 1)).astype(float), np.tile(y, TIMES)
    SoftmaxRegressionCV(Cs=2, cv=2).fit(X[:1000, :5], y[:1000])
    model = SoftmaxRegressionCV(Cs=[1e-2, 1], max_iter=2, n_jobs=2)
    call = lambda: model.fit(X, y)
    """
    body = textwrap.dedent(body).replace("TIMES", str(times))
    assert peak_megabytes(LOAD + body, *image_files) < most


@pytest.mark.parametrize(
    "solver", [pytest.param("lbfgs", marks=pytest.mark.slow), "newton-cg"]
)
def test_a_fit_of_a_memory_map_makes_no_copy_of_it(mapped_files, solver):
    # 160 MB of float64.
    assert peak_megabytes(MAP + FIT.format(5, solver), *mapped_files) < 80


@pytest.mark.slow
def test_prediction_from_a_memory_map_makes_no_copy_of_it(mapped_files):
    body = """
    model = SoftmaxRegression().fit(X[:1000], y[:1000])
    call = lambda: (model.predict(X), model.predict_proba(X))
    """
    assert peak_megabytes(MAP + textwrap.dedent(body), *mapped_files) < 30


@pytest.mark.slow
def test_a_memory_map_of_float16_is_searched_in_pieces(tmp_path):
    # 100 million entries, a flag for each of which would take 100 MB. Their sum
    # overflows: it does not show that all are finite.
    body = """
    import sys
    X = np.memmap(sys.argv[1], np.float16, "w+", shape=(100000, 1000))
    X[::10, :20] = 1
    model = SoftmaxRegression(max_iter=1).fit(X[:1000], np.arange(1000) % 3)
    call = lambda: model.predict(X)
    """
    assert peak_megabytes(body, tmp_path / "X") < 70


SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "out_of_core.py"


def out_of_core(**options):
    """Fit a file that is larger than the memory that the process may have."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    return subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *flags],
        # Each thread of BLAS has memory of its own.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_fit_needs_less_memory_than_its_data():
    # The libraries take 0.4 GB of it.
    process = out_of_core(gigabytes=1, limit=0.6)
    assert process.returncode == 0, process.stderr
    assert "fit: 8 passes" in process.stdout


@pytest.mark.slow
def test_the_limit_refuses_a_copy():
    # Swapped bytes are converted to float64 whole.
    process = out_of_core(gigabytes=1, limit=0.6, dtype=">f4")
    assert process.returncode != 0
    assert "MemoryError" in process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("library", ["h5py", "zarr"])
def test_a_fit_of_a_file_needs_less_memory_than_its_data(library):
    pytest.importorskip(library)
    kind = {"h5py": "hdf5", "zarr": "zarr"}[library]
    process = out_of_core(gigabytes=2, limit=0.7, kind=kind)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
def test_a_fit_of_a_sparse_matrix_makes_no_copy_of_it(solver):
    # 120 MB; weights, shares, codes and rows' ends are four vectors of 8 MB, scores and
    # probabilities of two points four of 16.
    assert peak_megabytes(SPARSE + FIT.format(5, solver)) < 110


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["auto", "lbfgs", "newton-cg"])
def test_a_fit_of_many_classes_keeps_nothing_of_rows_by_classes(solver):
    # n K float64 would take 1.2 GB.
    body = MANY_CLASSES.format(rows=300000) + FIT.format(2, solver)
    assert peak_megabytes(body) < 150


@pytest.mark.slow
def test_predicting_labels_keeps_nothing_of_rows_by_classes():
    # n K float64 would take 4 GB.
    body = """
    model = SoftmaxRegression(max_iter=1).fit(X[:5000], y[:5000])
    call = lambda: model.predict(X)
    """
    rows = MANY_CLASSES.format(rows=1000000)
    assert peak_megabytes(rows + textwrap.dedent(body)) < 60
