"""The data sets of the benchmarks, from a folder or from OpenML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.feature_extraction.text import TfidfVectorizer

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


class Source(NamedTuple):
    """Where a problem comes from, and what is done to its columns."""

    stored: str | None  # name in the folder
    openml: tuple[str, int] | None  # name and version on OpenML
    divide: float = 1.0
    rows: int | None = None  # training rows, where the source has test rows behind them


PROBLEMS = {
    "digits": Source(None, None),
    "letter": Source("letter", ("letter", 1), rows=16_000),
    "satimage": Source("satimage", ("satimage", 1), rows=4435),
    "covtype20k": Source("covtype20k", ("covertype", 3), rows=15_000),
    "usps": Source("usps", ("USPS", 2), rows=7291),
    "isolet": Source("isolet", ("isolet", 1)),
    "shuttle": Source("shuttle", ("shuttle", 1), rows=43_500),
    "clinc150": Source("clinc150", None),
    "khan": Source("khan", None),
    "fashion_mnist": Source(
        "fashion_mnist", ("Fashion-MNIST", 1), divide=255.0, rows=60_000
    ),
}


class NotAvailableError(Exception):
    """The data are neither in the folder nor to be fetched."""


def load(name: str, data: Path = DATA) -> tuple[Any, np.ndarray]:
    """Return X, float64 and C-ordered or CSR, and codes of the classes."""
    if name == "digits":
        return load_digits(return_X_y=True)
    source = PROBLEMS[name]
    X, y = _stored(source, data) or _fetched(name, source)
    y = np.unique(y, return_inverse=True)[1]
    if isinstance(X, list):
        return TfidfVectorizer(sublinear_tf=True).fit_transform(X), y
    return np.ascontiguousarray(X, dtype=np.float64) / source.divide, y


def _stored(source: Source, data: Path) -> tuple[Any, np.ndarray] | None:
    try:
        module = folder(data)
    except NotAvailableError:
        return None
    return module.load(source.stored) if source.stored in module.names() else None


def folder(data: Path = DATA) -> Any:
    """Return the loader module of the data folder."""
    if not (data / "load.py").exists():
        raise NotAvailableError(f"no data sets in {data}: name their folder by --data")
    if str(data) not in sys.path:
        sys.path.insert(0, str(data))
    return __import__("load")


def _fetched(name: str, source: Source) -> tuple[Any, np.ndarray]:
    if source.openml is None:
        raise NotAvailableError(f"{name} is not in the data folder")
    try:
        X, y = fetch_openml(
            source.openml[0],
            version=source.openml[1],
            return_X_y=True,
            as_frame=False,
            parser="liac-arff",
            n_retries=1,
        )
    except OSError as error:
        raise NotAvailableError(f"{name} could not be fetched: {error}") from error
    return X[: source.rows], y[: source.rows]
