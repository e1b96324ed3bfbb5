"""Array libraries by name: the only module that knows which library it has in hand.

Everything else computes in the namespace that `namespace` returns.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

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
    dense = [a for a in arrays if not scipy.sparse.issparse(a)]
    return array_api_compat.array_namespace(*dense) if dense else compat_numpy


def to_numpy(array: Array) -> np.ndarray:
    """Return the array on the host, as NumPy."""
    if isinstance(array, np.ndarray):
        return array
    if array_api_compat.is_cupy_array(array):
        return array.get()
    if array_api_compat.is_torch_array(array):
        return array.detach().cpu().numpy()
    return np.asarray(array)


def like(values: np.ndarray, reference: Array) -> Array:
    """Return NumPy values as an array of the reference's library and device."""
    if isinstance(reference, np.ndarray):
        return values
    xp = array_api_compat.array_namespace(reference)
    return xp.asarray(values, device=array_api_compat.device(reference))


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
    return namespace(array).astype(array, dtype, copy=False)


@cache
def keep_freed_memory() -> None:
    """Let the allocator keep what temporaries free, up to 64 MB, once a process.

    glibc returns freed memory above a threshold to the system at once, and to get a
    page back takes longer than the arithmetic done in it. The threshold is twice the
    largest block under 32 MB that was ever freed, so one is freed here, untouched.
    """
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


def add_to_diagonal(matrix: Array, values: Array | float) -> Array:
    """Return a square matrix with values added to its diagonal."""
    if isinstance(matrix, np.ndarray):
        lifted = matrix.copy()
        lifted.flat[:: matrix.shape[0] + 1] += values
        return lifted
    return matrix + identity(matrix.shape[0], matrix) * values


class TriangularFactor(NamedTuple):
    """Cholesky factor of `diag(scale)^-1 (L L') diag(scale)^-1`, about a given matrix.

    `scale` brings the matrix to unit diagonal first, so that columns in units far
    apart do not drown each other.
    """

    lower: Array
    scale: Array

    def solve(self, vectors: Array) -> Array:
        """Return `matrix^-1 vectors`; vectors (m, r)."""
        return self.unwhiten(self.whiten(vectors))

    def whiten(self, vectors: Array) -> Array:
        """Return `L^-1 diag(scale) vectors`, a square root of `solve`."""
        return _solve_lower(self.lower, self.scale[:, None] * vectors, transposed=False)

    def unwhiten(self, vectors: Array) -> Array:
        """Return `diag(scale) L^-T vectors`, the transpose of `whiten`."""
        solved = _solve_lower(self.lower, vectors, transposed=True)
        return self.scale[:, None] * solved


def factorise(matrix: Array) -> TriangularFactor:
    """Return the equilibrated Cholesky factor of a positive semi-definite matrix.

    A singular matrix is lifted by the smallest power of ten times the identity (in
    unit-diagonal scale) that lets the factorisation through.
    """
    xp = array_api_compat.array_namespace(matrix)
    diagonal = xp.linalg.diagonal(matrix)
    safe = xp.where(diagonal > 0, diagonal, xp.ones_like(diagonal))
    scale = 1 / xp.sqrt(safe)
    unit = matrix * scale[:, None]
    unit *= scale
    lift = 16 * float(xp.finfo(matrix.dtype).eps)
    while True:
        lower = _cholesky(add_to_diagonal(unit, lift))
        if lower is not None:
            return TriangularFactor(lower, scale)
        lift *= 10


def _cholesky(matrix: Array) -> Array | None:
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
        lower = xp.linalg.cholesky(matrix)
    except Exception as error:  # each library has a class of its own for this
        if "ositive" not in str(error) and "inalg" not in type(error).__name__.lower():
            raise
        return None
    return lower if bool(xp.all(xp.isfinite(lower))) else None


def _solve_lower(lower: Array, vectors: Array, *, transposed: bool) -> Array:
    if isinstance(lower, np.ndarray):
        return scipy.linalg.solve_triangular(
            lower, vectors, lower=True, trans=int(transposed), check_finite=False
        )
    if array_api_compat.is_cupy_array(lower):
        from cupyx.scipy.linalg import solve_triangular

        return solve_triangular(lower, vectors, lower=True, trans=int(transposed))
    if array_api_compat.is_torch_array(lower):
        import torch

        matrix = lower.mT if transposed else lower
        return torch.linalg.solve_triangular(matrix, vectors, upper=transposed)
    # The standard has no triangular solve.
    xp = array_api_compat.array_namespace(lower)
    return xp.linalg.solve(xp.matrix_transpose(lower) if transposed else lower, vectors)
