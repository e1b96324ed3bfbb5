"""Array libraries by name: the only module that knows which library it has in hand.

Everything else computes in the namespace that `namespace` returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import array_api_compat
import array_api_compat.numpy as compat_numpy
import numpy as np
import scipy.linalg
import scipy.sparse

Array = Any
# From so many columns on a product with float32 rows is formed rows first.
MANY_COLUMNS = 48


def namespace(*arrays: Array) -> Any:
    """Return the array-API namespace of the arrays; SciPy sparse counts as NumPy."""
    # The check of array-api-compat takes a fifth of a small fit.
    if isinstance(arrays[0], np.ndarray):
        return compat_numpy
    dense = [stored_values(a) for a in arrays if not scipy.sparse.issparse(a)]
    return array_api_compat.array_namespace(*dense) if dense else compat_numpy


@dataclass(frozen=True)
class Described:
    """A matrix that is in no one array: what is known of it beside its entries.

    `nnz` are the stored entries of a sparse one, None for a dense one.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    nbytes: int
    nnz: int | None


def is_sparse(values: Any) -> bool:
    """Return whether this is a sparse matrix or array of SciPy or CuPy."""
    if isinstance(values, Described):
        return values.nnz is not None
    return bool(scipy.sparse.issparse(values) or _is_cupy_sparse(values))


def is_array(values: Any) -> bool:
    """Return whether this is an array of any library, dense or sparse, lazy or not."""
    known = isinstance(values, np.ndarray) or array_api_compat.is_array_api_obj(values)
    return known or is_sparse(values)


def is_dask(values: Any) -> bool:
    """Return whether this is a Dask array or frame."""
    library = type(values).__module__.partition(".")[0]
    return library.startswith("dask") and hasattr(values, "__dask_graph__")


def _is_cupy_sparse(values: Any) -> bool:
    return type(values).__module__.startswith("cupyx.scipy.sparse")


def stored_values(values: Array) -> Array:
    """Return the stored entries of a sparse matrix of CuPy, else the array itself."""
    return values.data if _is_cupy_sparse(values) else values


def in_order_of(view: Any, X: Any) -> Any:
    """Return rows of a CSR matrix, or the same with other values, known to be in order.

    CuPy asks before every product whether entries are sorted and stored once: a kernel,
    for which the host waits, and where they are not it sorts a copy.
    """
    if _is_cupy_sparse(X) and X.has_canonical_format:
        view.has_canonical_format = True
    return view


def stored_bytes(X: Any) -> int:
    """Return the memory of a matrix, dense or CSR."""
    if is_sparse(X) and not isinstance(X, Described):
        return int(X.data.nbytes + X.indices.nbytes + X.indptr.nbytes)
    if hasattr(X, "nbytes"):
        return int(X.nbytes)
    # The array API has no such thing.
    xp = namespace(X)
    if xp.isdtype(X.dtype, "bool"):
        return int(X.size)
    is_real = xp.isdtype(X.dtype, "real floating")
    return int(X.size) * (xp.finfo if is_real else xp.iinfo)(X.dtype).bits // 8


def is_foreign(values: Any) -> bool:
    """Return whether this is an array that is computed with in another library.

    CuPy's, torch's, and any other of the standard whose arrays can be written to; lazy
    and immutable ones are not.
    """
    if isinstance(values, np.ndarray | np.generic) or scipy.sparse.issparse(values):
        return False
    values = stored_values(values)
    return (
        array_api_compat.is_array_api_obj(values)
        and array_api_compat.is_writeable_array(values)
        and not array_api_compat.is_lazy_array(values)
        and not array_api_compat.is_pydata_sparse_array(values)
    )


def place_of(values: Array) -> str:
    """Return the name of an array's library, and of its device."""
    if not is_foreign(values):
        return "numpy"
    values = stored_values(values)
    library = namespace(values).__name__.removeprefix("array_api_compat.")
    return f"{library} on {array_api_compat.device(values)}"


def to_numpy(array: Array) -> np.ndarray:
    """Return the array on the host, as NumPy."""
    if isinstance(array, np.ndarray):
        return array
    if is_cupy(array) or _is_cupy_sparse(array):
        return array.get()
    if array_api_compat.is_torch_array(array):
        # NumPy has no bfloat16.
        single = dtype_name(array) == "bfloat16"
        return (array.float() if single else array).numpy(force=True)
    xp = getattr(array, "__array_namespace__", lambda: None)()
    if xp is not None and array_api_compat.is_array_api_strict_namespace(xp):
        array = xp.asarray(array, device=xp.Device("CPU_DEVICE"))
    return np.asarray(array)


def on_host(values: Any) -> Any:
    """Return arrays of another library as NumPy's or SciPy's, all else as it is."""
    return to_numpy(values) if is_foreign(values) else values


def home_of(X: Any) -> Array:
    """Return an array of the place that answers about a matrix are given in."""
    return stored_values(X) if is_foreign(X) else np.empty(0)


def like(values: Array, reference: Array) -> Array:
    """Return values as an array of the reference's library and device."""
    if isinstance(reference, np.ndarray):
        return to_numpy(values)
    if place_of(values) == place_of(reference):
        return values
    xp = array_api_compat.array_namespace(reference)
    values = to_numpy(values)
    if array_api_compat.is_torch_array(reference):
        # torch takes no negative strides, and warns of memory it must not write to.
        values = np.array(values, order="C")
    return xp.asarray(values, device=array_api_compat.device(reference))


def moved(X: Any, reference: Array) -> Any:
    """Return a dense or CSR matrix in the place of an array, itself if it is there."""
    if place_of(X) == place_of(reference):
        return X
    if not scipy.sparse.issparse(X):
        return like(X, reference)
    import cupy
    import cupyx.scipy.sparse

    # CuPy has sparse matrices of floats only.
    data = X.data.astype(np.result_type(X.dtype, np.float32), copy=False)
    with device_context(reference):
        parts = tuple(cupy.asarray(part) for part in (data, X.indices, X.indptr))
        rows = cupyx.scipy.sparse.csr_matrix(parts, shape=X.shape)
        rows.sum_duplicates()  # else done anew before every product
    return rows


def gpu_reference(device: str) -> Array:
    """Return an empty array of CuPy on "cuda" or "cuda:<index>".

    Raises
    ------
    RuntimeError
        That says what is missing.
    """
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # no CuPy, one that cannot load, no driver, no GPU
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        raise RuntimeError(f"there are {count} GPUs, counted from 0")
    with cupy.cuda.Device(index):
        return cupy.empty(0)


def is_on_gpu(array: Array) -> bool:
    """Return whether an array lies in a GPU's memory."""
    on_cuda = array_api_compat.is_torch_array(array) and array.device.type == "cuda"
    return is_cupy(array) or on_cuda


def is_cupy(array: Array) -> bool:
    """Return whether this is an array of CuPy."""
    plain = isinstance(array, np.ndarray)
    return not plain and array_api_compat.is_cupy_array(array)


def device_context(array: Array) -> AbstractContextManager[Any]:
    """Return a context in which CuPy computes on the device of an array."""
    return array.device if is_cupy(array) else nullcontext()


def free_gpu_bytes(array: Array) -> int:
    """Return how much memory is free on the GPU of an array."""
    if array_api_compat.is_torch_array(array):
        import torch

        idle = torch.cuda.memory_reserved(array.device)
        idle -= torch.cuda.memory_allocated(array.device)
        return int(torch.cuda.mem_get_info(array.device)[0] + idle)
    import cupy

    with device_context(array):
        idle = cupy.get_default_memory_pool().free_bytes()
        return int(cupy.cuda.Device().mem_info[0] + idle)


@contextmanager
def tensor_float_products(reference: Array) -> Iterator[None]:
    """Let float32 products on the GPU of an array round factors to TensorFloat-32."""
    if is_cupy(reference):
        from cupy._core import _routines_linalg as linalg

        before = linalg.get_compute_type("f")
        linalg.set_compute_type("f", linalg.COMPUTE_TYPE_TF32)
        try:
            yield
        finally:
            linalg.set_compute_type("f", before)
        return
    import torch

    settings = torch.backends.cuda.matmul
    allowed, settings.allow_tf32 = settings.allow_tf32, True
    try:
        yield
    finally:
        settings.allow_tf32 = allowed


def is_laid_out(array: Array) -> bool:
    """Return whether an array has its entries in memory: torch has others."""
    if not array_api_compat.is_torch_array(array):
        return True
    import torch

    return array.layout == torch.strided and array.device.type != "meta"


def detached(array: Array) -> Array:
    """Return the array without what torch records for its gradients."""
    return array.detach() if array_api_compat.is_torch_array(array) else array


def rounded_to(array: Array, name: str) -> Array:
    """Return a float64 array with its entries rounded to a dtype."""
    xp = namespace(array)
    return xp.astype(xp.astype(array, getattr(xp, name)), xp.float64)


def dtype_name(array: Array) -> str:
    """Return the name of the dtype, as NumPy spells it."""
    return str(array.dtype).rpartition(".")[2]


def empty(shape: tuple[int, ...], reference: Array, dtype: str = "float64") -> Array:
    """Return memory in the reference's library and on its device."""
    xp = namespace(reference)
    device = array_api_compat.device(reference)
    return xp.empty(shape, dtype=getattr(xp, dtype), device=device)


def zeros(shape: tuple[int, ...], reference: Array) -> Array:
    """Return float64 zeros in the reference's library and on its device."""
    xp = namespace(reference)
    device = array_api_compat.device(reference)
    return xp.zeros(shape, dtype=xp.float64, device=device)


def as_array(values: Any) -> Array:
    """Return lists, numbers and frames as NumPy arrays, arrays as they are."""
    if hasattr(values, "to_numpy"):
        return values.to_numpy()
    return values if hasattr(values, "shape") else np.asarray(values)


def as_floating(values: Any) -> Array:
    """Return an array of a floating dtype: integers become float64."""
    array = as_array(values)
    xp = namespace(array)
    floating = xp.isdtype(array.dtype, "real floating")
    return array if floating else xp.astype(array, xp.float64)


def identity(size: int, reference: Array) -> Array:
    """Return the identity matrix in the reference's library, dtype and device."""
    device = array_api_compat.device(reference)
    return namespace(reference).eye(size, dtype=reference.dtype, device=device)


def cast(array: Array, dtype: Any) -> Array:
    """Return the array in this dtype, itself where it has it already."""
    # astype of array-api-compat takes as long as a small product.
    return array if array.dtype == dtype else namespace(array).astype(array, dtype)


@cache
def keep_freed_memory() -> None:
    """Let the allocator keep what temporaries free, up to 64 MB, once a process.

    glibc returns freed memory above a threshold to the system at once, and to get a
    page back takes longer than the arithmetic done in it. The threshold is twice the
    largest block under 32 MB that was ever freed, so one is freed here, untouched.
    """
    # Where there is not even that much, there is nothing to keep.
    with suppress(MemoryError):
        np.empty((1 << 25) - (1 << 16), dtype=np.uint8)


def contiguous(array: Array) -> Array:
    """Return the array with its last axis contiguous in memory, where that is known."""
    return np.ascontiguousarray(array) if isinstance(array, np.ndarray) else array


def product(left: Array, right: Array) -> Array:
    """Return the product of two matrices.

    NumPy's `@` holds the interpreter's lock where the result has fewer than 500
    entries, however large the operands are; its `dot` never does.
    """
    if isinstance(left, np.ndarray):
        return np.dot(left, right)
    return left @ right


def product_with_rows(left: Array, X: Array) -> Array:
    """Return `left @ X.T`, C-ordered.

    OpenBLAS reads float32 rows faster from the left (benchmarks/layout.py).
    """
    single = isinstance(X, np.ndarray) and X.dtype == np.float32
    if single and X.shape[1] >= MANY_COLUMNS:
        return contiguous(np.dot(X, left.T).T)
    return left @ X.T


def inner_over_classes(left: Array, right: Array, axis: int = 1) -> Array:
    """Return the sum of `left * right` over the axis of the classes.

    Without the product in memory, which takes as long as the rest of a kernel.
    """
    if isinstance(left, np.ndarray):
        axes = list(range(left.ndim))
        return np.einsum(left, axes, right, axes, [i for i in axes if i != axes[axis]])
    return namespace(left).sum(left * right, axis=axis)


def take_class(scores: Array, codes: Array) -> Array:
    """Return `scores[b, codes[i], i]` as (B, rows)."""
    if isinstance(scores, np.ndarray):
        return scores[:, codes, np.arange(codes.shape[0])]
    xp = array_api_compat.array_namespace(scores)
    index = xp.broadcast_to(codes[None, None, :], (scores.shape[0], 1, codes.shape[0]))
    return xp.take_along_axis(scores, index, axis=1)[:, 0, :]


def subtract_at_class(scores: Array, codes: Array, amount: Array | float) -> Array:
    """Return scores less `amount` at each row's class; NumPy input is overwritten.

    The amount is one number, or (B, rows).
    """
    if isinstance(scores, np.ndarray):
        scores[:, codes, np.arange(codes.shape[0])] -= amount
        return scores
    if not isinstance(amount, float):
        amount = amount[:, None, :]
    return scores - amount * cast(one_hot(codes, scores.shape[1]), scores.dtype)


def subtract_one_hot(proba: Array, codes: Array) -> Array:
    """Return proba less 1 at each row's class; NumPy input is overwritten.

    Where the class has nearly all of the probability its entry is formed as minus the
    sum of the others: `p - 1` would lose digits.
    """
    chosen = take_class(proba, codes)
    xp = namespace(proba)
    easy = chosen > 0.99
    if not bool(xp.any(easy)):
        return subtract_at_class(proba, codes, 1.0)
    rest = _put_class(proba, codes, xp.zeros_like(chosen))
    entry = xp.where(easy, -xp.sum(rest, axis=1), chosen - 1)
    return _put_class(rest, codes, entry)


def _put_class(scores: Array, codes: Array, values: Array) -> Array:
    """Return scores with (B, rows) values at each row's class."""
    if isinstance(scores, np.ndarray):
        scores[:, codes, np.arange(codes.shape[0])] = values
        return scores
    xp = array_api_compat.array_namespace(scores)
    return xp.where(one_hot(codes, scores.shape[1]), values[:, None, :], scores)


def one_hot(codes: Array, n_classes: int) -> Array:
    """Return (K, rows), True where a row has the class."""
    xp = array_api_compat.array_namespace(codes)
    classes = xp.arange(n_classes, device=array_api_compat.device(codes))
    return xp.astype(classes, codes.dtype)[:, None] == codes[None, :]


def add_along_classes(hessian: Array, own: Array, common: Array) -> Array:
    """Return a Hessian (k r, k r) plus two penalties; NumPy input is overwritten.

    `own` (r, r) is added to the block of each class with itself, `common` (r,) to the
    diagonal of every block of two classes.
    """
    n_columns = own.shape[0]
    n_classes = hessian.shape[0] // n_columns
    if isinstance(hessian, np.ndarray):
        blocks = hessian.reshape(n_classes, n_columns, n_classes, n_columns)
        for k in range(n_classes):
            blocks[k, :, k, :] += own
        diagonals = np.einsum("kilj->klij", blocks).diagonal(axis1=2, axis2=3)
        diagonals.flags.writeable = True
        diagonals += common
        return hessian
    each = identity(n_classes, hessian)[:, None, :, None] * own[None, :, None, :]
    shift = identity(n_columns, hessian) * common
    total = each + shift[None, :, None, :]
    return hessian + namespace(hessian).reshape(total, hessian.shape)


def repeated(values: Array, counts: Array) -> Array:
    """Return each value as many times over as its count says."""
    if isinstance(values, np.ndarray):
        return np.repeat(values, counts)
    xp = namespace(values)
    ends = xp.cumulative_sum(counts)
    places = xp.arange(int(ends[-1]), device=array_api_compat.device(values))
    return xp.take(values, xp.searchsorted(ends, places, side="right"))


def stacked_rows(parts: list[Any]) -> Any:
    """Return matrices, dense or CSR, one below the other."""
    if scipy.sparse.issparse(parts[0]):
        return scipy.sparse.vstack(parts, "csr")
    if is_sparse(parts[0]):
        import cupyx.scipy.sparse

        return cupyx.scipy.sparse.vstack(parts, "csr")
    return namespace(parts[0]).concat(parts, axis=0)


def rows_at(X: Any, numbers: np.ndarray) -> Any:
    """Return rows of a matrix, dense or CSR, by their numbers, where it lies."""
    if not is_foreign(X):
        return X[numbers]
    values = stored_values(X)
    with device_context(values):
        index = like(numbers, values)
        return X[index] if is_sparse(X) else namespace(X).take(X, index, axis=0)


def rows_in_order(parts: Iterable[tuple[np.ndarray, Array]], n_rows: int) -> Array:
    """Return the rows of matrices in one, each at the number that comes with it.

    Every number below n_rows comes once.
    """
    coming = iter(parts)
    first = next(coming)
    if isinstance(first[1], np.ndarray):
        out = np.empty((n_rows, first[1].shape[1]), dtype=first[1].dtype)
        for numbers, rows in chain([first], coming):
            out[numbers] = rows
        return out
    every, pieces = zip(first, *coming, strict=True)
    xp = namespace(first[1])
    order = like(np.argsort(np.concatenate(every)), first[1])
    return xp.take(xp.concat(pieces, axis=0), order, axis=0)


def add_to_diagonal(matrix: Array, values: Array | float) -> Array:
    """Return a square matrix with values added to its diagonal."""
    if isinstance(matrix, np.ndarray):
        lifted = matrix.copy()
        lifted.flat[:: matrix.shape[0] + 1] += values
        return lifted
    return matrix + identity(matrix.shape[0], matrix) * values


def eigenvectors(matrix: Array) -> tuple[Array, Array]:
    """Return the ascending eigenvalues and eigenvectors of a symmetric matrix."""
    if isinstance(matrix, np.ndarray):
        # SciPy's takes less memory than NumPy's.
        values, vectors = scipy.linalg.eigh(matrix, check_finite=False)
        return values, vectors
    values, vectors = namespace(matrix).linalg.eigh(matrix)
    return values, vectors


def cholesky(matrix: Array) -> Array | None:
    """Return the lower factor, or None where the matrix is not positive definite.

    The matrix is overwritten where the library can.
    """
    if isinstance(matrix, np.ndarray):
        try:
            # Transposed it is the same matrix, in the order that LAPACK overwrites.
            return scipy.linalg.cholesky(
                matrix.T, lower=True, overwrite_a=True, check_finite=False
            )
        except scipy.linalg.LinAlgError:
            return None
    xp = array_api_compat.array_namespace(matrix)
    try:
        with _raising(matrix):
            lower = xp.linalg.cholesky(matrix)
    except Exception as error:  # each library has a class of its own for this
        if "ositive" not in str(error) and "inalg" not in type(error).__name__.lower():
            raise
        return None
    fine = xp.all(xp.isfinite(lower)) & xp.all(xp.linalg.diagonal(lower) > 0)
    return lower if bool(fine) else None


def _raising(array: Array) -> AbstractContextManager[Any]:
    """Return a context in which CuPy, too, says that a factorisation failed."""
    if not is_cupy(array):
        return nullcontext()
    import cupyx

    return cupyx.errstate(linalg="raise")


def solve_lower(lower: Array, vectors: Array, *, transposed: bool) -> Array:
    """Return `L^-1 vectors`, or `L^-T vectors`, of a lower triangular matrix."""
    if isinstance(lower, np.ndarray):
        return scipy.linalg.solve_triangular(
            lower, vectors, lower=True, trans=int(transposed), check_finite=False
        )
    if is_cupy(lower):
        from cupyx.scipy.linalg import solve_triangular

        return solve_triangular(lower, vectors, lower=True, trans=int(transposed))
    if array_api_compat.is_torch_array(lower):
        import torch

        matrix = lower.mT if transposed else lower
        return torch.linalg.solve_triangular(matrix, vectors, upper=transposed)
    # The standard has no triangular solve.
    xp = array_api_compat.array_namespace(lower)
    return xp.linalg.solve(xp.matrix_transpose(lower) if transposed else lower, vectors)
