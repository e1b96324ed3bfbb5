"""The fused kernels: their source as C++, one thread, against plain operations."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
import scipy.special

from softreg import _fused as fused

SHIM = """
#include <cmath>
#define __device__ static
#define __global__
struct Index { long long x; };
static Index blockIdx, blockDim = {1}, threadIdx = {0};
extern "C" void be_thread(long long i) { blockIdx.x = i; }
"""
REALS = {"float": np.float32, "double": np.float64}


@pytest.fixture(scope="module", params=REALS)
def kernels(request, tmp_path_factory):
    """The compiled kernels, and the dtype of their scores."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("fused")
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(SHIM + fused.source(request.param))
    command = [compiler, "-O1", "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)), REALS[request.param]


def launch(library, name, n_threads, *args):
    """Run a kernel thread by thread."""
    arguments = [
        ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray)
        else ctypes.c_longlong(a)
        for a in args
    ]  # fmt: skip
    for thread in range(n_threads):
        library.be_thread(ctypes.c_longlong(thread))
        getattr(library, name)(*arguments)


class Case:
    """Scores of rows, some of them easy, and what the plain operations make of them."""

    def __init__(
        self, dtype, n_problems=2, n_classes=5, n_rows=7, n_weights=1, scale=3
    ):
        rng = np.random.default_rng(0)
        self.shape = n_problems, n_classes, n_rows
        scores = scale * rng.normal(size=self.shape)
        scores[:, 1, 3] += 60
        scores[:, :, 4] = 2.0  # all tie
        self.scores = scores.astype(dtype)
        self.codes = rng.integers(0, n_classes, n_rows)
        self.codes[3] = 1
        self.weight = rng.exponential(size=(n_weights, n_rows))
        self.sizes = (*self.shape, n_weights)
        self.n_threads = n_problems * n_rows
        self.way = rng.normal(size=self.shape).astype(dtype)
        self.own = self.codes, np.arange(n_rows)

    def loss(self, scores):
        """Return weighted losses in float64, (B, rows), from differences of scores."""
        mine = scores[:, self.codes, np.arange(self.shape[2])]
        away = scores - mine[:, None, :]
        away[:, *self.own] = -np.inf
        others = scipy.special.logsumexp(away, axis=1)
        return self.weight * np.logaddexp(0, others)

    def residual(self, proba):
        rest = proba.copy()
        rest[:, *self.own] = 0
        rest[:, *self.own] = -rest.sum(axis=1)
        return self.weight[:, None, :] * rest


CASES = [
    {},
    {"n_weights": 2},
    {"n_classes": 2, "n_problems": 1},
    {"n_classes": 300, "n_rows": 5},
    {"scale": 1e4},
]


def tolerance(dtype):
    return {"rtol": 40 * np.finfo(dtype).eps, "atol": 40 * np.finfo(dtype).eps}


def launched_residual(kernels, case):
    """Return what the kernel writes: scores, w p, losses, own entries, potentials."""
    library, dtype = kernels
    of_rows = case.shape[0], case.shape[2]
    scores, out = case.scores.copy(), np.empty_like(case.scores)
    loss, own, potential = (np.empty(of_rows, kind) for kind in (float, dtype, dtype))
    launch(library, "residual", case.n_threads, scores, out, loss, own, potential,
           case.codes, case.weight, *case.sizes)  # fmt: skip
    return scores, out, loss, own, potential


@pytest.mark.parametrize("options", CASES, ids=str)
def test_residual_and_loss(kernels, options):
    dtype = kernels[1]
    case = Case(dtype, **options)
    exact = case.scores.astype(float)
    scores, out, loss, own, potential = launched_residual(kernels, case)
    proba = scipy.special.softmax(exact, axis=1)
    expected = case.weight[:, None, :] * proba
    np.testing.assert_allclose(out, expected, **tolerance(dtype))
    out[:, *case.own] = own
    np.testing.assert_allclose(out, case.residual(proba), **tolerance(dtype))
    np.testing.assert_allclose(loss, case.loss(exact), **tolerance(dtype))
    expected = scipy.special.logsumexp(exact, axis=1)
    np.testing.assert_allclose(potential, expected, **tolerance(dtype))
    top = exact - exact.max(axis=1, keepdims=True)
    np.testing.assert_allclose(scores, top, **tolerance(dtype))


@pytest.mark.parametrize("options", CASES, ids=str)
def test_easy_rows_keep_their_digits(kernels, options):
    case = Case(kernels[1], **options)
    exact = case.loss(case.scores.astype(float))
    _, _, loss, own, _ = launched_residual(kernels, case)
    np.testing.assert_allclose(loss[:, 3], exact[:, 3], rtol=1e-5)
    others = -np.expm1(-exact[:, 3] / case.weight[:, 3])
    np.testing.assert_allclose(own[:, 3], -case.weight[:, 3] * others, rtol=1e-4)


@pytest.mark.parametrize("options", CASES, ids=str)
def test_hessian_product(kernels, options):
    library, dtype = kernels
    case = Case(dtype, **options)
    along = case.way.copy()
    launch(library, "curved", case.n_threads, case.scores, along, case.weight,
           *case.sizes)  # fmt: skip
    proba = scipy.special.softmax(case.scores.astype(float), axis=1)
    mean = (proba * case.way).sum(axis=1, keepdims=True)
    expected = case.weight[:, None, :] * proba * (case.way - mean)
    np.testing.assert_allclose(along, expected, **tolerance(dtype))


@pytest.mark.parametrize("options", CASES, ids=str)
def test_line(kernels, options):
    library, dtype = kernels
    case = Case(dtype, **options)
    steps = np.array([0.7, -2.0])[: case.shape[0]]
    loss = np.empty((case.shape[0], case.shape[2]))
    slope = np.empty_like(loss)
    launch(library, "line", case.n_threads, case.scores, case.way, steps, loss, slope,
           case.codes, case.weight, *case.sizes)  # fmt: skip
    moved = case.scores.astype(float) + steps[:, None, None] * case.way
    proba = scipy.special.softmax(moved, axis=1)
    np.testing.assert_allclose(loss, case.loss(moved), **tolerance(dtype))
    expected = case.weight * (proba * case.way).sum(axis=1)
    np.testing.assert_allclose(slope, expected, **tolerance(dtype))
