"""The estimator's parameters: their ranges, in one table, and what they stand for."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils import check_random_state

from softreg._arrays import Array, gpu_reference, on_host
from softreg._losses import ORDERS, TOP_K, Loss
from softreg._threads import SINGLE_BLAS_THREAD
from softreg.solvers import SOLVERS, MiniBatch, Solver

# More values of C than anyone searches: a slip, that would fill the memory.
MAX_CS = 10_000


class Range(NamedTuple):
    """An interval that a real or whole parameter must lie in."""

    low: float
    high: float
    text: str
    hint: str
    open_low: bool = False
    open_high: bool = False
    whole: bool = False

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number of the kind and in the interval."""
        if not (is_whole(value) if self.whole else is_real(value)):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return bool(above and below)


def is_real(value: Any) -> bool:
    """Return whether a value is a real number, not a bool."""
    return isinstance(value, numbers.Real) and not is_flag(value)


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number, not a bool."""
    return isinstance(value, numbers.Integral) and not is_flag(value)


def is_flag(value: Any) -> bool:
    """Return whether a value is a bool."""
    return isinstance(value, bool | np.bool_)


INF = float("inf")
RANGES = {
    "C": Range(
        0, INF, "a number in (0, inf]", "Larger C means weaker regularisation.", True
    ),
    "temperature": Range(
        0, INF, "a number in (0, inf)", "1 is the plain softmax.", True, True
    ),
    "label_smoothing": Range(
        0, 1, "a number in [0, 1)", "0 leaves the labels as they are.", open_high=True
    ),
    "tol": Range(
        0,
        INF,
        "a number in [0, inf)",
        "It is the largest relative gap to the optimum that may remain.",
        open_high=True,
    ),
    "max_iter": Range(
        1, INF, "an integer of at least 1", "The default is 1000.", whole=True
    ),
    "verbose": Range(
        0, INF, "an integer of at least 0", "1 shows progress.", whole=True
    ),
}
FLAGS = ("fit_intercept", "penalize_intercept", "warm_start")


def check_parameters(estimator: Any) -> None:
    """Raise where a parameter is out of its range."""
    for name, allowed in RANGES.items():
        value = getattr(estimator, name)
        if name == "verbose" and is_flag(value):
            continue
        if not allowed.holds(value):
            raise refusal(value, f"{name} must be {allowed.text}", allowed.hint)
    decay = estimator.weight_decay
    if decay is not None and not Range(0, INF, "", "", open_high=True).holds(decay):
        raise refusal(
            decay,
            "weight_decay must be None or a number in [0, inf)",
            "It is lambda of the mean loss; None takes 1 / (C * sum of weights).",
        )
    for name in FLAGS:
        value = getattr(estimator, name)
        if not is_flag(value):
            raise refusal(value, f"{name} must be True or False", "Pass a bool.")
    _check_loss(estimator.loss)
    _check_choices(estimator)


def check_streams(estimator: Any) -> None:
    """Raise where rows cannot come in batches with these parameters."""
    check_parameters(estimator)
    if isinstance(estimator.loss, str) and TOP_K.fullmatch(estimator.loss):
        raise ValueError(
            f"partial_fit needs a loss without kinks, got loss={estimator.loss!r}. Use "
            "fit, or another loss."
        )


def check_choice(name: str, value: Any, choices: list[str], hint: str) -> None:
    """Raise where a parameter is none of its names."""
    if not (isinstance(value, str) and value in choices):
        raise refusal(value, f"{name} must be one of {choices}", hint)


def grid_of(Cs: Any) -> np.ndarray:
    """Return the values of C of a grid: an integer is so many from 1e-4 to 1e4."""
    hint = "An integer takes so many values from 1e-4 to 1e4, evenly in the logarithm."
    if is_whole(Cs):
        if not 1 <= Cs <= MAX_CS:
            raise ValueError(f"Cs must be from 1 to {MAX_CS}, got {Cs}. {hint}")
        return np.logspace(-4, 4, int(Cs))
    try:
        values = np.asarray(on_host(Cs), dtype=np.float64)
        if isinstance(Cs, list | tuple) and any(
            isinstance(C, str | bytes | bool | np.bool_) for C in Cs
        ):
            raise TypeError("strings and flags are no numbers")
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Cs must be an integer or a list of numbers, got {Cs!r}. {hint}"
        ) from error
    if values.ndim != 1 or not len(values) or is_flag(Cs):
        raise ValueError(
            f"Cs must be an integer or a list of one or more numbers, got {Cs!r}. "
            f"{hint}"
        )
    bad = values[~(np.isfinite(values) & (values > 0))]
    if len(bad):
        raise ValueError(
            f"Cs must be finite and above 0, got {bad.tolist()} among {len(values)} "
            "values. Larger C means weaker regularisation."
        )
    return values


def _check_loss(loss: Any) -> None:
    named = isinstance(loss, str) and (loss in ORDERS or TOP_K.fullmatch(loss))
    known = named or isinstance(loss, Loss)
    if not known and not Range(0, 2, "", "", open_low=True).holds(loss):
        raise refusal(
            loss,
            f"loss must be one of {sorted(ORDERS)}, 'topk-<k>', a number in (0, 2] or "
            "an object of a subclass of softreg.losses.Loss",
            "The number is the order alpha of the entropy: 1 is softmax, 2 sparsemax.",
        )


def check_top_k(loss: Any, n_classes: int, where: str = "") -> None:
    """Raise where a top-k loss has no k of 2 up to the number of classes."""
    match = TOP_K.fullmatch(loss) if isinstance(loss, str) else None
    if match and not 2 <= int(match[1]) <= n_classes:
        raise ValueError(
            f"{where}loss must be 'topk-<k>' with k from 2 to the {n_classes} classes, "
            f"got {loss!r}. k = K is the softmax; for k = 1 the optimum is W = 0."
        )


def _check_choices(estimator: Any) -> None:
    solver = estimator.solver
    names = ["auto", *sorted(SOLVERS)]
    known = isinstance(solver, str) and solver in names
    if not known and not isinstance(solver, Solver):
        raise refusal(
            solver,
            f"solver must be one of {names} or an object of softreg.solvers or of a "
            "subclass of its Solver",
            "'auto' chooses by the size of the problem.",
        )
    weight = estimator.class_weight
    if not (
        weight is None
        or isinstance(weight, Mapping)
        or (isinstance(weight, str) and weight == "balanced")
    ):
        raise refusal(
            weight,
            "class_weight must be None, 'balanced' or a dict",
            "A dict maps labels to weights; labels it lacks weigh 1.",
        )
    n_jobs = estimator.n_jobs
    if n_jobs is not None and (
        not Range(-INF, INF, "", "", whole=True).holds(n_jobs) or n_jobs == 0
    ):
        raise refusal(
            n_jobs,
            "n_jobs must be None or an integer other than 0",
            "None and -1 use all that the process may use.",
        )
    state = estimator.random_state
    with advising(
        f"random_state must be None, an integer of 0 or more or a RandomState, got "
        f"{state!r}."
    ):
        check_random_state(state)
    _check_device(estimator.device)


def _check_device(device: Any) -> None:
    if device is None or device == "cpu":
        return
    kind, _, index = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind != "cuda" or not (index == "" or index.isdigit()):
        raise refusal(
            device,
            "device must be None, 'cpu', 'cuda' or 'cuda:<index>'",
            "None computes where X lives.",
        )
    gpu_of(device)


def gpu_of(device: str) -> Array:
    """Return an empty array on a GPU by its name; refuse one that is not there."""
    try:
        return gpu_reference(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} needs CuPy and a CUDA GPU, got {error}. Install "
            "softreg[cuda12] or softreg[cuda13] on a machine with one, or use "
            "device=None or device='cpu'."
        ) from error


def solver_of(estimator: Any) -> Solver | None:
    """Return the solver asked for, or None for "auto"."""
    solver = estimator.solver
    if isinstance(solver, str):
        solver = None if solver == "auto" else SOLVERS[solver]()
    if isinstance(solver, MiniBatch) and estimator.random_state is not None:
        random = check_random_state(estimator.random_state)
        return replace(solver, seed=int(random.randint(np.iinfo(np.int32).max)))
    return solver


def n_threads(n_jobs: int | None) -> int:
    """Return the threads to use; within a joblib worker, its share.

    A positive number is taken at its word, up to the cores.
    """
    allowed = effective_n_jobs(-1)
    if n_jobs is not None and n_jobs > 0:
        return min(effective_n_jobs(n_jobs), allowed)
    share = min(allowed, SINGLE_BLAS_THREAD.n_usable_threads())
    return share if n_jobs is None else min(effective_n_jobs(n_jobs), share)


def intercept_of(estimator: Any) -> str:
    if not estimator.fit_intercept:
        return "none"
    return "penalised" if estimator.penalize_intercept else "free"


def refusal(value: Any, must: str, hint: str) -> Exception:
    """Return the error for a parameter: TypeError where its kind is wrong."""
    wrong_kind = not isinstance(value, numbers.Real | str)
    kind = TypeError if wrong_kind else ValueError
    return kind(f"{must}, got {value!r}. {hint}")


@contextmanager
def advising(advice: str | Callable[[], str]) -> Iterator[None]:
    """Add what to do to the errors of scikit-learn's checks."""
    try:
        yield
    except (TypeError, ValueError) as error:
        said = advice if isinstance(advice, str) else advice()
        # Errors of NumPy's own kinds take other arguments.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{error}\n{said}") from error
