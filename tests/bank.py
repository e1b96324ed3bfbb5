"""Random problems, and the objective written a second time, plainly, as an oracle."""

import numpy as np
import scipy.special

from softreg._blocks import Engine
from softreg._design import Parametrisation
from softreg._losses import loss_of
from softreg._problem import Problem
from softreg._targets import HardTargets, SoftTargets

# Each a set of options of `make_data`; together they cover what may be combined.
OPTIONS = {
    "plain": {},
    "two classes": {"n_classes": 2},
    "two soft classes": {"n_classes": 2, "soft": True, "smoothing": 0.1},
    "temperature": {"temperature": 2.5},
    "smoothing": {"smoothing": 0.1},
    "cost": {"cost": True},
    "soft": {"soft": True},
    "weights": {"weighted": True},
    "all hard": {
        "temperature": 0.5, "smoothing": 0.2, "cost": True, "weighted": True,
    },
    "all soft": {
        "temperature": 2.0, "smoothing": 0.2, "cost": True, "weighted": True,
        "soft": True,
    },
    "two all": {
        "n_classes": 2, "temperature": 2.0, "smoothing": 0.2, "cost": True,
        "weighted": True,
    },
    "no intercept": {"intercept": "none", "cost": True},
    "penalised intercept": {"intercept": "penalised", "temperature": 2.0},
    "entmax": {"loss": "entmax15", "temperature": 1.5},
    "heavy tails": {"loss": 0.6, "weighted": True, "smoothing": 0.1},
    "order 1.2": {"loss": 1.2, "soft": True, "cost": True},
    "sparse": {"loss": "sparsemax", "weighted": True},
    "two sparse": {"loss": "entmax15", "n_classes": 2},
}  # fmt: skip


class Data:
    """Data of a fit with its options, and F by its definition."""

    def __init__(
        self,
        seed=0,
        n_rows=60,
        n_features=5,
        n_classes=4,
        temperature=1.0,
        smoothing=0.0,
        cost=False,
        soft=False,
        weighted=False,
        intercept="free",
        offset=0.5,
        loss="softmax",
    ):
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(n_rows, n_features)) + offset
        self.codes = np.concatenate(
            [np.arange(n_classes), rng.integers(0, n_classes, n_rows - n_classes)]
        )
        self.rows = rng.dirichlet(np.full(n_classes, 0.5), n_rows) if soft else None
        self.weight = np.ones(n_rows)
        if weighted:
            self.weight = rng.exponential(size=n_rows)
            self.weight[n_classes::7] = 0
        self.cost = None
        if cost:
            self.cost = rng.uniform(0, 2, (n_classes, n_classes))
            np.fill_diagonal(self.cost, 0)
        self.n_classes, self.temperature = n_classes, temperature
        self.smoothing, self.intercept = smoothing, intercept
        self.rng, self.loss = rng, loss

    @property
    def targets(self):
        if self.rows is not None:
            return SoftTargets(self.rows, self.smoothing, self.cost)
        return HardTargets(self.codes, self.n_classes, self.smoothing, self.cost)

    def problem(self, xp=np, dtype=None, n_threads=1, X=None):
        """Return the problem in an array namespace; weights may be (n,) or (B, n)."""
        weight = np.atleast_2d(self.weight)
        weight = weight / weight.sum(axis=1, keepdims=True)
        targets = self.targets
        convert = {
            name: xp.asarray(value)
            for name, value in targets._asdict().items()
            if isinstance(value, np.ndarray)
        }
        return Problem(
            xp.asarray(self.X) if X is None else X,
            targets._replace(**convert),
            xp.asarray(weight),
            xp.float64 if dtype is None else dtype,
            loss_of(self.loss, self.n_classes),
            Parametrisation(self.n_classes, self.temperature),
            self.intercept,
            Engine(n_threads),
        )

    def random_coef(self, scale=1.0, n_problems=1):
        """Return a random point (B, k, P)."""
        shape = self.problem().shape
        return scale * self.rng.normal(size=(n_problems, *shape))

    def potential(self, u):
        """Return max_p <u, p> - Omega(p) of each row, by bisection on its threshold."""
        if self.loss == "softmax":
            return scipy.special.logsumexp(u, axis=1)
        alpha = {"entmax15": 1.5, "sparsemax": 2.0}.get(self.loss, self.loss)
        low, high = u.max(axis=1) - 1e3, u.max(axis=1) + 1e3
        for _ in range(200):
            middle = (low + high) / 2
            base = (alpha - 1) * (u - middle[:, None])
            with np.errstate(divide="ignore"):
                p = np.where(alpha > 1, np.maximum(base, 0), np.abs(base)) ** (
                    1 / (alpha - 1)
                )
            # Below alpha = 1 the threshold lies above all scores.
            above = p.sum(axis=1) > 1
            if alpha < 1:
                above |= (base <= 0).any(axis=1)
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        entropy = ((p**alpha).sum(axis=1) - 1) / (alpha * (alpha - 1))
        return (u * p).sum(axis=1) - entropy

    def oracle(self, coef, l2):
        """Return F at coef (k, P), from its definition in docs/mathematics.md."""
        eye = np.eye(self.n_classes)
        q0 = eye[self.codes] if self.rows is None else self.rows
        q = (1 - self.smoothing) * q0 + self.smoothing / self.n_classes
        has_intercept = self.intercept != "none"
        X = np.column_stack([self.X, np.ones(len(q))]) if has_intercept else self.X
        full = np.concatenate([-coef / 2, coef / 2]) if len(coef) == 1 else coef
        u = X @ full.T / self.temperature
        if self.cost is not None:
            u = u + q0 @ self.cost
        losses = self.potential(u) - (u * q).sum(axis=1)
        penalised = coef[:, :-1] if self.intercept == "free" else coef
        return np.average(losses, weights=self.weight) + l2 / 2 * (penalised**2).sum()
