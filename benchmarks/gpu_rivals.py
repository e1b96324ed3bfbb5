"""The rivals of `gpu.py`: each returns its objective at each moment of one fit."""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from judge import objective

MEMORY = 5
# scikit-learn on the CPU: what one of its evaluations does in a second, about.
CPU_FLOPS = 2e10
CPU_EVALUATIONS = 200


class NotPossibleError(Exception):
    """A rival that cannot do a problem here."""


class Trace(NamedTuple):
    """What a rival reached when; `end` is its last objective in float64."""

    seconds: np.ndarray
    values: np.ndarray
    note: str
    end: float
    n_rows: int = 0  # where it had but some of them


class Clock:
    """Objectives as they are evaluated, until the time is over."""

    def __init__(self, limit: float) -> None:
        self.limit, self.start = limit, time.perf_counter()
        self.seconds: list[float] = []
        self.values: list[float] = []

    def take(self, value: float) -> None:
        self.seconds.append(time.perf_counter() - self.start)
        self.values.append(value)

    @property
    def over(self) -> bool:
        return time.perf_counter() - self.start > self.limit

    def restart(self) -> None:
        """Forget what was evaluated to warm up."""
        self.seconds.clear()
        self.values.clear()
        self.start = time.perf_counter()

    def trace(self, note: str, end: float, n_rows: int = 0) -> Trace:
        return Trace(np.array(self.seconds), np.array(self.values), note, end, n_rows)


def some_rows(task: Any) -> Any:
    """Return a task of few rows: what CuPy compiles when first used is not timed."""
    n_rows = max(4096, task.X.shape[0] // 16)
    return task._replace(X=task.X[:n_rows], y=task.y[:n_rows])


# -- a stand-in of cuML's quasi-Newton loop -------------------------------------------


class StandIn:
    """cuML's L-BFGS as its source has it, everything in the dtype of X."""

    def __init__(self, xp: Any, task: Any, limit: float) -> None:
        self.xp, self.X, self.y = xp, task.X, task.y
        self.n_rows, self.n_columns = task.X.shape
        self.n_classes = task.n_classes
        self.clock = Clock(limit)
        self.place = xp.arange(self.n_rows)
        self.XT = task.X.T
        if task.n_classes * self.n_rows * 4 > 24e9:
            raise NotPossibleError("n x K of float32 would take too much memory")

    def evaluate(self, x: Any) -> tuple[float, Any]:
        xp, n = self.xp, self.n_rows
        weights, bias = x[:, :-1], x[:, -1:]
        scores = (self.X @ weights.T).T + bias
        top = scores.max(axis=0)
        scores -= top
        own = scores[self.y, self.place]
        xp.exp(scores, out=scores)
        total = scores.sum(axis=0)
        loss = (xp.log(total) - own).sum() / n
        scores /= total
        scores[self.y, self.place] -= 1
        gradient = xp.empty_like(x)
        gradient[:, :-1] = (self.XT @ scores.T).T / n + weights / n
        gradient[:, -1] = scores.sum(axis=1) / n
        value = float(loss) + float((weights * weights).sum()) / (2 * n)
        return value, gradient

    def run(self, tol: float = 1e-10, max_iter: int = 100_000) -> Trace:
        xp = self.xp
        x = xp.zeros((self.n_classes, self.n_columns + 1), dtype=xp.float32)
        self.evaluate(x)
        self.clock.restart()
        value, g = self.evaluate(x)
        self.clock.take(value)
        pairs: deque[tuple[Any, Any, float]] = deque(maxlen=MEMORY)
        direction, length = -g, 1 / float(xp.linalg.norm(g))
        for _ in range(max_iter):
            slope = float((g * direction).sum())
            found = self.search(x, value, direction, slope, length)
            if slope > 0 or found is None or self.clock.over:
                break
            x_new, value, g_new = found
            self.clock.take(value)
            s, change = x_new - x, g_new - g
            x, g = x_new, g_new
            if float(xp.abs(g).max()) <= tol * max(value, tol):
                break
            product, square = float((s * change).sum()), float((change * change).sum())
            if product > np.finfo(np.float32).eps * square:
                pairs.append((s, change, product))
                direction = -self.recursion(pairs, g, product / square)
            length = 1.0
        end = objective(self.X, self.y, x[:, :-1], x[:, -1])
        return self.clock.trace("cuml-qn stand-in, float32, plain operations", end)

    def search(
        self, x: Any, value: float, direction: Any, slope: float, length: float
    ) -> tuple[Any, float, Any] | None:
        for _ in range(50):
            moved = x + self.xp.float32(length) * direction
            new, gradient = self.evaluate(moved)
            if math.isfinite(new) and new <= value + 1e-4 * length * slope:
                return moved, new, gradient
            length /= 2
            if length < 1e-20 or self.clock.over:
                break
        return None

    def recursion(self, pairs: Any, gradient: Any, scale: float) -> Any:
        vector, shares = gradient, []
        for s, change, product in reversed(pairs):
            share = float((s * vector).sum()) / product
            vector = vector - self.xp.float32(share) * change
            shares.append(share)
        vector = self.xp.float32(scale) * vector
        for (s, change, product), share in zip(pairs, reversed(shares), strict=True):
            back = share - float((change * vector).sum()) / product
            vector = vector + self.xp.float32(back) * s
        return vector


def stand_in(xp: Any, task: Any, limit: float) -> Trace:
    StandIn(xp, some_rows(task), limit).run(max_iter=3)
    return StandIn(xp, task, limit).run()


# -- torch ----------------------------------------------------------------------------


def torch_lbfgs(xp: Any, task: Any, limit: float) -> Trace:
    """torch.optim.LBFGS with strong Wolfe, float32."""
    if task.sparse:
        raise NotPossibleError("no derivative of its sparse product on every backend")
    try:
        import torch
    except ImportError as error:
        raise NotPossibleError("torch is not installed") from error
    if task.n_classes * task.X.shape[0] * 4 > 12e9:
        raise NotPossibleError("n x K of float32 three times would take all memory")
    X = torch.from_dlpack(task.X) if xp is not np else torch.from_numpy(task.X)
    y = torch.from_dlpack(task.y) if xp is not np else torch.from_numpy(task.y)
    n_rows, n_columns = X.shape
    clock = Clock(limit)
    options = {"device": X.device, "dtype": torch.float32, "requires_grad": True}
    weights = torch.zeros((task.n_classes, n_columns), **options)
    bias = torch.zeros(task.n_classes, **options)
    optimiser = torch.optim.LBFGS(
        [weights, bias], max_iter=20, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=0.0, tolerance_change=0.0,
    )  # fmt: skip

    def closure() -> Any:
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(X @ weights.T + bias, y)
        loss = loss + (weights * weights).sum() / (2 * n_rows)
        loss.backward()
        return loss

    closure()
    clock.restart()
    last = float("inf")
    while not clock.over:
        # The loss where a step of 20 iterations begins: trial points do not count.
        value = float(optimiser.step(closure).detach())
        clock.take(value)
        if not value < last:
            break
        last = value
    parts = weights.detach(), bias.detach()
    if xp is np:
        coef, intercept = (part.numpy() for part in parts)
    else:
        coef, intercept = (xp.from_dlpack(part) for part in parts)
    end = objective(task.X, task.y, coef, intercept)
    return clock.trace("torch.optim.LBFGS, float32, 20 iterations a time", end)


# -- scikit-learn ---------------------------------------------------------------------


def scikit_learn_arrays(xp: Any, task: Any, limit: float) -> Trace:
    """LogisticRegression on the arrays as they are: the array API of scikit-learn."""
    import sklearn
    from sklearn.linear_model import LogisticRegression

    if xp is np or task.sparse:
        raise NotPossibleError("nothing to dispatch to")
    clock = Clock(limit)
    with sklearn.config_context(array_api_dispatch=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few = some_rows(task)
        LogisticRegression(max_iter=2).fit(few.X, few.y)
        for max_iter in (10, 30, 100, 300, 1000, 3000):
            model = LogisticRegression(tol=1e-8, max_iter=max_iter)
            clock.start = time.perf_counter()
            model.fit(task.X, task.y)
            seconds = time.perf_counter() - clock.start
            value = objective(task.X, task.y, model.coef_, model.intercept_)
            clock.seconds.append(seconds)
            clock.values.append(value)
            if 3 * seconds > limit:
                break
    return clock.trace("LogisticRegression, lbfgs, array API", value)


def scikit_learn_host(xp: Any, task: Any, limit: float) -> Trace:
    """LogisticRegression on the CPU, on so many rows as it has the time for."""
    from sklearn.linear_model import LogisticRegression

    n_rows, n_columns = task.X.shape
    columns = 60 if task.sparse else n_columns
    affordable = limit * CPU_FLOPS / (CPU_EVALUATIONS * 4 * columns * task.n_classes)
    n_taken = int(min(n_rows, max(10 * task.n_classes, affordable)))
    X, y = task.X[:n_taken], task.y[:n_taken]
    if xp is not np:
        X, y = X.get(), y.get()
    y = np.unique(y, return_inverse=True)[1]
    clock = Clock(limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for max_iter in (10, 30, 100, 300, 1000):
            start = time.perf_counter()
            model = LogisticRegression(tol=1e-8, max_iter=max_iter).fit(X, y)
            seconds = time.perf_counter() - start
            clock.seconds.append(seconds)
            value = objective(X, y, model.coef_, model.intercept_)
            clock.values.append(value)
            if 3 * seconds > limit:
                break
    some = n_taken if n_taken < n_rows else 0
    return clock.trace("LogisticRegression, lbfgs, CPU", value, some)


RIVALS: dict[str, Callable[[Any, Any, float], Trace]] = {
    "cuml-qn stand-in": stand_in,
    "torch L-BFGS": torch_lbfgs,
    "scikit-learn, arrays": scikit_learn_arrays,
    "scikit-learn, CPU": scikit_learn_host,
}
