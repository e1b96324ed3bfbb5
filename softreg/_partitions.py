"""The edge of Dask input: its partitions, checked where they lie, as one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import validate_data

from softreg._arrays import Described, is_foreign, is_sparse, stacked_rows, stored_bytes
from softreg._dask import (
    Cluster,
    cluster_of,
    computed_here,
    each,
    head_of,
    is_frame,
    partitions_of,
    seceded,
)
from softreg._parameters import advising
from softreg._parts import LocalParts, joined
from softreg._problem import row_space_pays
from softreg._rows import checked_rows
from softreg._sharded import ShardedRows, groups_of

NUMERIC = "biuf"
# A matrix of more columns than rows is fetched up to this size: in one process it can
# be solved in the space of its rows.
FETCHED_BYTES = 1 << 28


class Facts(NamedTuple):
    """What is known of a partition, or the error that its check raised."""

    shape: tuple[int, int] = (0, 0)
    dtype: Any = None
    nbytes: int = 0
    nnz: int | None = None
    error: Exception | None = None


def parted_rows(estimator: Any, X: Any, most_threads: int | None) -> Any:
    """Return a Dask collection as one matrix in parts, checked as `checked_rows` does.

    The parts stay where Dask computes them: on the workers, each of which uses so many
    threads at most, or in this process. Only a small matrix of more columns than rows
    becomes an array.
    """
    with advising("X must hold finite numbers, a row a sample."):
        _check_kind(X)
        validate_data(estimator, head_of(X), reset=True, skip_check_array=True)
    parts = each(checked_part, partitions_of(X), _named_as(estimator))
    cluster = cluster_of(X)
    if cluster is None:
        here = computed_here(parts)
        facts = _sound([facts_of(part) for part in here])
        described = _described(facts)
        if _is_fetched(described):
            return stacked_rows(list(joined(_with_rows(here))))
        return LocalParts(**vars(described), parts=joined(_with_rows(here)))
    with seceded():
        return _on_cluster(cluster, parts, most_threads)


def _on_cluster(cluster: Cluster, parts: list[Any], most_threads: int | None) -> Any:
    """Return delayed parts as the shards of a cluster."""
    there = cluster.compute([*parts, *each(facts_of, parts)])
    held = there[: len(parts)]
    facts = _sound(cluster.answers(there[len(parts) :]))
    described = _described(facts)
    if _is_fetched(described):
        return stacked_rows(_with_rows(cluster.answers(held)))
    n_rows = [own.shape[0] for own in facts]
    groups = groups_of(cluster, held, n_rows, most_threads)
    return ShardedRows(**vars(described), cluster=cluster, groups=groups)


def _check_kind(X: Any) -> None:
    """Refuse a collection that is no matrix of numbers."""
    if getattr(X, "ndim", None) != 2:
        found = f"{X.ndim}D" if hasattr(X, "ndim") else type(X).__name__
        raise ValueError(f"Expected 2D array, got {found} Dask collection instead.")
    if not is_frame(X):
        return
    kinds = {str(name): dtype for name, dtype in X.dtypes.items()}
    strange = [f"{n!r} ({t})" for n, t in kinds.items() if t.kind not in NUMERIC]
    if strange:
        raise ValueError(
            f"X must have numeric columns only, got {', '.join(strange)}. Encode them "
            "as numbers, or leave them out."
        )


def _named_as(estimator: Any) -> Any:
    """Return an estimator of the class and the columns, without parameters.

    That is all that the checks of a partition ask of it.
    """
    stub = object.__new__(type(estimator))
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            setattr(stub, name, getattr(estimator, name))
    return stub


def checked_part(part: Any, stub: Any) -> Any:
    """Return a partition checked, or the error; a value is not tried again."""
    try:
        if is_foreign(part):
            raise TypeError(
                "The partitions of X must be of NumPy, pandas or SciPy, got "
                f"{type(part).__name__}. Convert them, as by map_blocks."
            )
        if not part.shape[0]:
            return np.empty((0, stub.n_features_in_), np.uint8)
        return checked_rows(stub, part, reset=False)
    except (TypeError, ValueError) as error:
        return error


def facts_of(part: Any) -> Facts:
    """Return what is known of a checked partition."""
    if isinstance(part, Exception):
        return Facts(error=part)
    nnz = int(part.nnz) if is_sparse(part) else None
    return Facts(tuple(part.shape), part.dtype, stored_bytes(part), nnz)


def _sound(facts: list[Facts]) -> list[Facts]:
    """Return the facts, or raise the first error among them."""
    for own in facts:
        if own.error is not None:
            raise own.error
    return facts


def _with_rows(parts: Sequence[Any]) -> list[Any]:
    return [part for part in parts if part.shape[0]]


def _described(facts: list[Facts]) -> Described:
    """Return the matrix of all partitions, without its entries."""
    full = [own for own in facts if own.shape[0]]
    if not full:
        shape = (0, facts[0].shape[1])
        raise ValueError(
            f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is "
            "required. X must have rows in some partition."
        )
    stored = [own.nnz for own in full if own.nnz is not None]
    if 0 < len(stored) < len(full):
        raise ValueError(
            f"X must have sparse partitions or dense ones, got {len(stored)} sparse "
            f"ones of {len(full)}. Convert them, as by map_blocks."
        )
    return Described(
        (sum(own.shape[0] for own in full), full[0].shape[1]),
        np.result_type(*(own.dtype for own in full)),
        sum(own.nbytes for own in full),
        sum(stored) if stored else None,
    )


def _is_fetched(X: Described) -> bool:
    return row_space_pays(X) and X.nbytes <= FETCHED_BYTES
