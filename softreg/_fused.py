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

// The row of a problem that a thread has.
struct Item {
    offset number, problem, row;
    offset start;  // of its scores
    double weight;
};

__device__ Item item_of(const double* weight, offset n_classes, offset n_rows,
                        offset n_weights) {
    Item item;
    item.number = (offset)blockIdx.x * blockDim.x + threadIdx.x;
    item.problem = item.number / n_rows;
    item.row = item.number % n_rows;
    item.start = item.problem * n_classes * n_rows + item.row;
    // One row of weights may serve all problems; threads beyond the last have none.
    offset owner = n_weights == 1 ? 0 : item.problem;
    item.weight = owner < n_weights ? weight[owner * n_rows + item.row] : 0.0;
    return item;
}

// `out` is w p; `own` is w (p - 1) at the class.
extern "C" __global__ void residual(REAL* scores, REAL* out, double* loss, REAL* own,
                                    REAL* potential, const offset* codes,
                                    const double* weight, offset n_problems,
                                    offset n_classes, offset n_rows,
                                    offset n_weights) {
    Item item = item_of(weight, n_classes, n_rows, n_weights);
    if (item.problem >= n_problems) return;
    offset start = item.start, code = codes[item.row];
    double w = item.weight;
    REAL* z = scores + start;
    Sums s = sums_of(z, 0, 0.0, n_classes, n_rows);
    double others = 0.0;
    for (offset k = 0; k < n_classes; ++k) {
        double shifted = (double)z[k * n_rows] - s.top;
        double p = EXP((REAL)shifted) / s.total;
        z[k * n_rows] = (REAL)shifted;
        if (k != code) others += p;
        out[start + k * n_rows] = (REAL)(w * p);
    }
    // p - 1 would lose the digits of an easy row.
    own[item.number] = (REAL)(-w * others);
    loss[item.number] = w * (log1p(s.other) - (double)z[code * n_rows]);
    potential[item.number] = (REAL)(s.top + log1p(s.other));
}

extern "C" __global__ void curved(const REAL* scores, REAL* along, const double* weight,
                                  offset n_problems, offset n_classes, offset n_rows,
                                  offset n_weights) {
    Item item = item_of(weight, n_classes, n_rows, n_weights);
    if (item.problem >= n_problems) return;
    const REAL* z = scores + item.start;
    REAL* v = along + item.start;
    double w = item.weight;
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
    Item item = item_of(weight, n_classes, n_rows, n_weights);
    if (item.problem >= n_problems) return;
    const REAL *z = scores + item.start, *v = way + item.start;
    double step = steps[item.problem], w = item.weight;
    Sums s = sums_of(z, v, step, n_classes, n_rows);
    offset at = codes[item.row] * n_rows;
    double own = (double)z[at] + step * (double)v[at];
    loss[item.number] = w * (log1p(s.other) - (own - s.top));
    slope[item.number] = w * s.dot / s.total;
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
    scores: Array, codes: Array, weight: Array, potentials: bool
) -> tuple[Array, Array, tuple[Array, ...], Array]:
    """Return weighted losses (B, rows), residuals (B, K, rows), sums, shifted scores.

    The sums are those of `w p_k f(u)` over the rows, (B, K), where they are asked for;
    the last are the scores less their maximum, written over them.
    """
    import cupy

    # Of a sparse X they come by columns.
    scores = cupy.ascontiguousarray(scores)
    n_problems, _, n_rows = scores.shape
    loss = cupy.empty((n_problems, n_rows))
    own, potential = (cupy.empty((n_problems, n_rows), scores.dtype) for _ in range(2))
    out = cupy.empty_like(scores)
    _launch("residual", scores, out, loss, own, potential, codes, weight=weight)
    reached: tuple[Array, ...] = ()
    if potentials:
        sums = [one @ row for one, row in zip(out, potential, strict=True)]
        reached = (cupy.stack(sums).astype(np.float64),)
    out[:, codes, cupy.arange(n_rows)] = own
    return loss, out, reached, scores


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
