"""The stand-in refuses what CuPy refuses; run as README.md says."""

import cupy
import cupyx
import cupyx.scipy.sparse
import numpy as np
import pytest
import scipy.sparse
from cupyx.scipy.linalg import solve_triangular

pytestmark = pytest.mark.gpu
HOST = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def array():
    return cupy.asarray(HOST)


def test_it_says_what_it_is():
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
    assert name == b"CPU stand-in of CuPy"
    assert "stand-in" in repr(cupy.cuda.Device(0))


@pytest.mark.parametrize(
    "use",
    [
        np.asarray,
        lambda a: a + HOST,
        lambda a: HOST * a,
        lambda a: cupy.maximum(a, HOST),
        lambda a: cupy.where(a > 0, a, HOST),
        lambda a: a @ HOST.T,
        lambda a: cupy.concatenate([a, HOST]),
        lambda a: range(a.sum()),
        lambda a: HOST[: a[0, 0]],
        lambda a: cupy.asarray([a[0], HOST[0]]),
        lambda a: a.__iadd__(HOST),
    ],
)
def test_arrays_of_the_host_are_not_mixed_in(use, array):
    with pytest.raises(TypeError):
        use(array)


def test_assignments_from_the_host_are_refused(array):
    with pytest.raises(ValueError, match="non-scalar"):
        array[...] = HOST
    array[...] = np.float32(2)
    assert float(array.sum()) == 12


def test_numbers_of_numpy_and_python_are_taken(array):
    single = array.astype("float32")
    assert (single * 2.0).dtype == np.float32
    assert (single * np.float64(2)).dtype == np.float64
    assert isinstance(np.float32(2) * single, cupy.ndarray)
    assert not isinstance(array, np.ndarray)


def test_there_are_no_words_and_objects():
    for values in (["a"], [None], [1, "a"]):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            cupy.asarray(values)


def test_reductions_are_arrays_and_results_are_in_c_order(array):
    assert array.sum().shape == ()
    assert isinstance(array.max(), cupy.ndarray)
    assert (array.T + 1).flags.c_contiguous
    assert (array.T @ array).flags.c_contiguous
    assert array.T.flags.f_contiguous
    assert array[0, 0].base is array


@pytest.mark.parametrize("name", ["vecdot", "unstack", "float128", "matvec"])
def test_names_that_cupy_lacks_are_missing(name, array):
    assert not hasattr(cupy, name)
    for method in ("__array_namespace__", "__index__", "__contains__", "tostring"):
        assert not hasattr(array, method)


def test_undefined_indices_are_errors(array):
    with pytest.raises(IndexError):
        array[cupy.asarray([7])]
    with pytest.raises(ValueError, match="undefined"):
        array[:, cupy.asarray([1, 1])] = array[:, :2]
    with pytest.raises(TypeError):
        cupy.empty(3)[: cupy.asarray(2)]


def test_factorisations_fail_silently_unless_asked():
    matrix = -cupy.eye(3)
    assert bool(cupy.isnan(cupy.linalg.cholesky(matrix)).all())
    asked = cupyx.errstate(linalg="raise")
    with asked, pytest.raises(np.linalg.LinAlgError, match="devInfo"):
        cupy.linalg.cholesky(matrix)
    with pytest.raises(TypeError, match="float16"):
        cupy.linalg.cholesky(matrix.astype("float16"))
    with pytest.raises(ValueError, match="must have"):
        cupy.linalg.solve(cupy.ones((2, 3, 3)), cupy.ones((3, 1)))
    assert solve_triangular(-matrix, cupy.ones((3, 2))).flags.f_contiguous


def test_copies_are_late_and_waited_for():
    stream, target = cupy.cuda.Stream(non_blocking=True), cupy.empty(3)
    staged = cupyx.empty_pinned(3)
    staged[:] = 1
    target.set(staged, stream=stream)
    copied = stream.record()
    assert bool(cupy.isnan(target).all())
    staged[:] = 2  # too early: the copy has yet to read it
    cupy.cuda.get_current_stream().wait_event(copied)
    assert target.get().tolist() == [2, 2, 2]
    for wait in (stream.synchronize, cupy.cuda.Device(0).synchronize):
        staged += 1
        target.set(staged, stream=stream)
        wait()
        np.testing.assert_array_equal(target.get(), staged)
    with pytest.raises(TypeError, match="cannot be set"):
        target.set(staged.astype("float32"))


def test_what_a_copy_may_still_read_is_not_overwritten():
    stream, target = cupy.cuda.Stream(non_blocking=True), cupy.empty(3)
    staged = cupyx.empty_pinned(3)
    staged[:] = 1
    target.set(staged, stream=stream)
    # A kernel waits; the host does not.
    cupy.cuda.get_current_stream().wait_event(stream.record())
    staged += 1
    with pytest.raises(RuntimeError, match="overwritten"):
        target.set(staged, stream=stream)
    target.get()
    target.set(staged, stream=stream)
    stream.record().synchronize()
    staged += 1
    target.set(staged, stream=stream)
    stream.synchronize()


def test_sparse_matrices_hold_floats_and_multiply_by_columns():
    rows = scipy.sparse.random_array((4, 3), density=0.5, format="csr")
    X = cupyx.scipy.sparse.csr_matrix(rows)
    assert (X @ cupy.ones((3, 2))).flags.f_contiguous
    assert (cupy.ones((2, 4)) @ X).shape == (2, 3)
    assert isinstance(X.T, cupyx.scipy.sparse.csc_matrix)
    with pytest.raises(ValueError, match="Only bool"):
        cupyx.scipy.sparse.csr_matrix(rows.astype(int))
    with pytest.raises(ValueError, match="cupy arrays"):
        cupyx.scipy.sparse.csr_matrix((rows.data, rows.indices, rows.indptr))
    with pytest.raises(ValueError, match="enough dimensions"):  # NumPy's, of an object
        X @ np.ones((3, 2))
    with pytest.raises(TypeError, match="ambiguous"):
        len(X)


CODE = r"""
#define REAL float
typedef long long offset;
extern "C" __global__ void scale(const REAL* x, double* out, offset n) {
    offset i = (offset)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = 2.0 * x[i];
}
"""


def test_a_kernel_is_given_what_it_takes():
    kernel = cupy.RawKernel(CODE, "scale")
    x, out = cupy.arange(6, dtype="float32"), cupy.empty(6)
    kernel((2,), (4,), (x, out, np.int64(6)))
    assert out.get().tolist() == [0, 2, 4, 6, 8, 10]
    for wrong in (
        (x, out),
        (x, out, np.int32(6)),
        (x.astype("float64"), out, 6),
        (x.get(), out, 6),
        (x, out, 6.0),
    ):
        with pytest.raises(TypeError):
            kernel((2,), (4,), wrong)
    with pytest.raises(ValueError, match="gaps"):
        kernel((2,), (4,), (x[::2], out, 3))
    with pytest.raises(ValueError, match="no launch"):
        kernel((1,), (2048,), (x, out, 6))
