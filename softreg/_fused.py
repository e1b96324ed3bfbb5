"""The softmax of a block in one kernel, for CuPy: what `_kernels` does in many steps.

Scores are class-major, so one thread takes a row and neighbours read neighbours'
memory; it goes over the classes once for the maximum and the sums (Milakov &
Gimelshein 2018, 1805.02867), and once more where it writes. Sums are in float64,
offsets in 64 bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from softreg._arrays import Array

THREADS = 256

SOURCE = r"""
typedef long long offset;

struct Sums {
    double total;  // of exp(z - top)
    double other;  // of the same over all classes but the first at the top
    double dot;    // of the same times v
    double top;
};

// Sums over the classes of `z + step * v`, in one read.
__device__ Sums sums_of(const REAL* z, const REAL* v, double step, offset n_classes,
                        offset stride) {
    double first = v ? (double)v[0] : 0.0;
    Sums s = {1.0, 0.0, first, (double)z[0] + step * first};
    for (offset k = 1; k < n_classes; ++k) {
        double along = v ? (double)v[k * stride] : 0.0;
        double score = (double)z[k * stride] + step * along;
        if (score > s.top) {
            double shrink = EXP((REAL)(s.top - score));
            s.other = s.total * shrink;
            s.total = s.other + 1.0;
            s.dot = s.dot * shrink + along;
            s.top = score;
        } else {
            double term = EXP((REAL)(score - s.top));
            s.other += term;
            s.total += term;
            s.dot += term * along;
        }
    }
    return s;
}

extern "C" __global__ void residual(REAL* scores, REAL* proba, REAL* out, double* loss,
                                    const offset* codes, const double* weight,
                                    offset n_problems, offset n_classes, offset n_rows,
                                    offset n_weights) {
    offset i = (offset)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n_problems * n_rows) return;
    offset problem = i / n_rows, row = i % n_rows;
    offset start = problem * n_classes * n_rows + row;
    offset code = codes[row];
    REAL* z = scores + start;
    double w = weight[(n_weights == 1 ? 0 : problem) * n_rows + row];
    Sums s = sums_of(z, 0, 0.0, n_classes, n_rows);
    double others = 0.0;
    for (offset k = 0; k < n_classes; ++k) {
        double shifted = (double)z[k * n_rows] - s.top;
        double p = EXP((REAL)shifted) / s.total;
        z[k * n_rows] = (REAL)shifted;
        if (proba) proba[start + k * n_rows] = (REAL)p;
        if (k != code) {
            others += p;
            out[start + k * n_rows] = (REAL)(w * p);
        }
    }
    // p - 1 would lose the digits of an easy row.
    out[start + code * n_rows] = (REAL)(-w * others);
    loss[i] = w * (log1p(s.other) - (double)z[code * n_rows]);
}

extern "C" __global__ void curved(const REAL* scores, REAL* along, const double* weight,
                                  offset n_problems, offset n_classes, offset n_rows,
                                  offset n_weights) {
    offset i = (offset)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n_problems * n_rows) return;
    offset problem = i / n_rows, row = i % n_rows;
    const REAL* z = scores + problem * n_classes * n_rows + row;
    REAL* v = along + problem * n_classes * n_rows + row;
    double w = weight[(n_weights == 1 ? 0 : problem) * n_rows + row];
    Sums s = sums_of(z, v, 0.0, n_classes, n_rows);
    double mean = s.dot / s.total;
    for (offset k = 0; k < n_classes; ++k) {
        double p = EXP((REAL)((double)z[k * n_rows] - s.top)) / s.total;
        v[k * n_rows] = (REAL)(w * p * ((double)v[k * n_rows] - mean));
    }
}

extern "C" __global__ void line(const REAL* scores, const REAL* way,
                                const double* steps, double* loss, double* slope,
                                const offset* codes, const double* weight,
                                offset n_problems, offset n_classes, offset n_rows,
                                offset n_weights) {
    offset i = (offset)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n_problems * n_rows) return;
    offset problem = i / n_rows, row = i % n_rows;
    offset start = problem * n_classes * n_rows + row;
    const REAL *z = scores + start, *v = way + start;
    double step = steps[problem];
    double w = weight[(n_weights == 1 ? 0 : problem) * n_rows + row];
    Sums s = sums_of(z, v, step, n_classes, n_rows);
    offset at = codes[row] * n_rows;
    double own = (double)z[at] + step * (double)v[at];
    loss[i] = w * (log1p(s.other) - (own - s.top));
    slope[i] = w * s.dot / s.total;
}
"""


@cache
def _kernel(name: str, real: str) -> Any:
    import cupy

    return cupy.RawKernel(source(real), name)


def source(real: str) -> str:
    """Return the kernels for scores of a type of C."""
    exp = "expf" if real == "float" else "exp"
    return f"#define REAL {real}\n#define EXP {exp}\n{SOURCE}"


def _launch(name: str, scores: Array, *args: Any, weight: Array) -> None:
    """Run a kernel with one thread a row and problem of scores (B, K, rows)."""
    import cupy

    real = {"float32": "float", "float64": "double"}[str(scores.dtype)]
    # Of a block of a batch the weights are a slice.
    weight = cupy.ascontiguousarray(weight)
    sizes = [np.int64(n) for n in (*scores.shape, weight.shape[0])]
    n_blocks = -(-scores.shape[0] * scores.shape[2] // THREADS)
    arguments = (scores, *args, weight, *sizes)
    _kernel(name, real)((n_blocks,), (THREADS,), arguments)


def residual(
    scores: Array, codes: Array, weight: Array, keep: bool
) -> tuple[Array, Array, tuple[Array, Array] | None]:
    """Return weighted losses (B, rows) and residuals (B, K, rows), and what to keep.

    Scores are overwritten by themselves less their maximum.
    """
    import cupy

    # Of a sparse X they come by columns.
    scores = cupy.ascontiguousarray(scores)
    loss = cupy.empty((scores.shape[0], scores.shape[2]))
    proba = cupy.empty_like(scores) if keep else None
    out = cupy.empty_like(scores)
    kept = np.intp(0) if proba is None else proba
    _launch("residual", scores, kept, out, loss, codes, weight=weight)
    return loss, out, None if proba is None else (scores, proba)


def curved(scores: Array, along: Array, weight: Array) -> Array:
    """Return the weighted product of dp/dz with a direction, which is overwritten."""
    import cupy

    scores, along = (cupy.ascontiguousarray(a) for a in (scores, along))
    _launch("curved", scores, along, weight=weight)
    return along


def line(
    scores: Array, way: Array, steps: Array, codes: Array, weight: Array
) -> tuple[Array, Array]:
    """Return weighted losses and slopes (B, rows) at `scores + steps way`."""
    import cupy

    scores, way = (cupy.ascontiguousarray(a) for a in (scores, way))
    loss = cupy.empty((scores.shape[0], scores.shape[2]))
    slope = cupy.empty_like(loss)
    _launch("line", scores, way, steps, loss, slope, codes, weight=weight)
    return loss, slope
