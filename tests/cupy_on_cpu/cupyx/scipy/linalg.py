"""Triangular systems."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from cupy._array import wrapped
from cupy.linalg import _matrices


def solve_triangular(
    a, b, trans=0, lower=False, unit_diagonal=False, overwrite_b=False,
    check_finite=False,
):  # fmt: skip
    """Solve as cuBLAS does: a zero on the diagonal makes infinities, no error."""
    matrix, vectors = _matrices(a, b)
    if a.ndim != 2:
        raise NotImplementedError("the stand-in has no batches of these")
    if a.shape[0] != a.shape[1]:
        raise ValueError("expected square matrix")
    if len(a) != len(b):
        raise ValueError("incompatible dimensions")
    if b.ndim not in (1, 2):
        raise ValueError("too many values to unpack (expected 2)")
    if (np.diagonal(matrix) == 0).any() and not unit_diagonal:
        return wrapped(np.full(b.shape, np.inf, matrix.dtype, order="F"))
    # It computes in the dtype of the matrix.
    solved = scipy.linalg.solve_triangular(
        matrix.astype(a.dtype), vectors.astype(a.dtype), trans, lower, unit_diagonal,
        check_finite=False,
    )  # fmt: skip
    return wrapped(np.asfortranarray(solved))
