"""What fitted linear models share: scores, probabilities and labels of new rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import scipy.sparse
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from softreg._arrays import (
    Array,
    cast,
    is_dask,
    is_foreign,
    is_sparse,
    like,
    namespace,
    on_host,
    place_of,
)
from softreg._labels import labels_of
from softreg._losses import Loss, shift_to_top
from softreg._rows import in_memory
from softreg._scores import apply_rows, lazily


class AccuracyMixin:
    """The accuracy of predicted labels, wherever they lie.

    It stands before `ClassifierMixin`.
    """

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on labelled rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        accuracy : float
            Share of the rows (by weight) whose label is predicted.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, and for soft targets, which have no
            accuracy.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression().fit(X, y)
        >>> round(model.score(X, y), 2)
        0.97
        """
        if np.ndim(y) == 2 and np.shape(y)[1] > 1:
            raise ValueError(
                f"y must be labels (n,) to be scored, got shape {np.shape(y)}. For "
                "soft targets pass y.argmax(axis=1), or a scorer of your own, as of "
                "-(y * model.predict_log_proba(X)).sum(axis=1).mean()."
            )
        y, sample_weight = in_memory(y), in_memory(sample_weight)
        labels = in_memory(self.predict(X))  # type: ignore[attr-defined]
        return float(accuracy_score(y, labels, sample_weight=sample_weight))


class LinearSoftmaxMixin(AccuracyMixin):
    """Prediction from `classes_`, `coef_` and `intercept_`.

    It stands before `ClassifierMixin`.
    """

    classes_: np.ndarray
    coef_: Any
    intercept_: np.ndarray

    @property
    @abstractmethod
    def _loss(self) -> Loss:
        """The loss whose projection gives the probabilities."""

    @property
    @abstractmethod
    def _temperature(self) -> float:
        """What scores are divided by."""

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: sparse X is welcome, arrays of any library."""
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores `W x + b`.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            A column a class; for two classes the score of `classes_[1]` against
            `classes_[0]`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, naming what is wrong.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression().fit(X, y)
        >>> model.decision_function(X[:2]).shape
        (2, 3)
        """
        check_is_fitted(self)
        if is_dask(X):
            return lazily(self, X, "decision_function")
        return apply_rows(self, X, self._decision, "decision_function")

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Labels from `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, naming what is wrong.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression().fit(X, y)
        >>> model.predict(X[:2])
        array([0, 0])
        """
        check_is_fitted(self)
        if is_dask(X):
            return lazily(self, X, "predict")
        return labels_of(self.classes_, apply_rows(self, X, _most_probable, "predict"))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities `softmax((W x + b) / T)`.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Rows sum to one.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, naming what is wrong.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression().fit(X, y)
        >>> model.predict_proba(X[:2]).round(2)
        array([[0.98, 0.02, 0.  ],
               [0.97, 0.03, 0.  ]])
        """
        check_is_fitted(self)
        if is_dask(X):
            return lazily(self, X, "predict_proba")
        return apply_rows(self, X, self._proba, "predict_proba")

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithms of the probabilities, finite wherever the scores are.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            For the softmax formed from the scores, never from probabilities that
            underflow; -inf where another loss gives probability 0.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, naming what is wrong.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression().fit(X, y)
        >>> model.predict_log_proba(1000 * X[:2]).min() < -1000
        np.True_
        """
        check_is_fitted(self)
        if is_dask(X):
            return lazily(self, X, "predict_log_proba")
        return apply_rows(
            self, X, lambda scores: self.log_proba_of(scores).T, "predict_log_proba"
        )

    def proba_jacobian(self, X: Any) -> np.ndarray:
        """Return the derivatives of the probabilities with respect to the columns of X.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        jacobian : ndarray of shape (n_samples, n_classes, n_features)
            `dp_k / dx_j`, in probability per unit of the column; sums to zero over the
            classes.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, naming what is wrong.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression().fit(X, y)
        >>> jacobian = model.proba_jacobian(X[:2])
        >>> jacobian.shape, bool(abs(jacobian.sum(axis=1)).max() < 1e-12)
        ((2, 3, 4), True)
        """
        check_is_fitted(self)
        if is_dask(X):
            return lazily(self, X, "proba_jacobian")
        coef = self.coef_.toarray() if scipy.sparse.issparse(self.coef_) else self.coef_
        xp = namespace(coef)
        if coef.shape[0] == 1:
            coef = xp.concat([-coef / 2, coef / 2])
        coef = coef / self._temperature
        loss = self._loss

        def jacobian(scores: Array) -> Array:
            proba = loss.proba(self._shifted(scores))
            curvature, total = loss.curvature(proba)
            there = cast(like(coef, scores), curvature.dtype)
            mean = (curvature / total)[0, ...].T @ there
            return curvature[0, ...].T[:, :, None] * (there - mean[:, None, :])

        return apply_rows(self, X, jacobian, "proba_jacobian")

    @staticmethod
    def _decision(scores: Array) -> Array:
        """Return scores (rows, K) of scores (k, rows); of two classes one column."""
        if scores.shape[0] > 2:
            return scores.T
        return scores[0, :] if scores.shape[0] == 1 else scores[1, :] - scores[0, :]

    def _shifted(self, scores: Array) -> Array:
        """Return tempered scores (1, K, rows), 0 at the top, from (k, rows)."""
        if scores.shape[0] == 1:
            scores = namespace(scores).concat([-scores / 2, scores / 2])
        if self._temperature != 1:
            scores /= self._temperature
        return shift_to_top(scores[None, :, :])

    def _proba(self, scores: Array) -> Array:
        """Return probabilities (rows, K) of scores (k, rows)."""
        return self._loss.proba(self._shifted(scores))[0, ...].T

    def log_proba_of(self, scores: Array) -> Array:
        """Return log-probabilities (K, rows) of scores (k, rows)."""
        return self._loss.log_proba(self._shifted(scores))[0, ...]

    def sparsify(self) -> Self:
        """Store `coef_` as a sparse CSR matrix; pays where most entries are zero.

        Returns
        -------
        self : estimator
            The estimator; `fit` makes `coef_` dense again.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For coefficients of another library than NumPy.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression().fit(X, y)
        >>> model.sparsify().coef_.format
        'csr'
        """
        check_is_fitted(self)
        if is_foreign(self.coef_):
            raise ValueError(
                f"sparsify needs coef_ of NumPy, got one of {place_of(self.coef_)}. It "
                "stays dense there."
            )
        self.coef_ = scipy.sparse.csr_matrix(self.coef_)
        return self

    def densify(self) -> Self:
        """Store `coef_` as an ndarray, as `fit` leaves it.

        Returns
        -------
        self : estimator
            The estimator.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = SoftmaxRegression().fit(X, y)
        >>> model.sparsify().densify().coef_.shape
        (3, 4)
        """
        check_is_fitted(self)
        if scipy.sparse.issparse(self.coef_):
            self.coef_ = self.coef_.toarray()
        return self


def _most_probable(scores: Array) -> Array:
    """Return the codes (rows,) of the largest of scores (k, rows)."""
    xp = namespace(scores)
    if scores.shape[0] == 1:
        return cast(scores[0, :] > 0, xp.int64)
    return xp.argmax(scores, axis=0)


def coefficients_of(estimator: Any) -> np.ndarray:
    """Return a fit's coefficients (k, P) on the host, the intercept last if it has one.

    They are plain and of float64, whatever `coef_` is.
    """
    coef = on_host(estimator.coef_)
    coef = np.asarray(coef.toarray() if is_sparse(coef) else coef, dtype=np.float64)
    if not getattr(estimator, "fit_intercept", True):
        return coef
    intercept = np.asarray(on_host(estimator.intercept_), dtype=np.float64)
    return np.column_stack([coef, intercept])
