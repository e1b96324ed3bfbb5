"""Soft targets: a small model that learns from a stronger one
===========================================================

A neural network trained on a thousand digits says of a few others how probable each
class is. A softmax regression that is trained on these probabilities learns more from
as few rows than from their labels: also what each looks like besides. It stays as small
as ever. The network is asked of rows it has not seen. Run it, in half a minute, with::

    python examples/distillation.py
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from softreg import SoftmaxRegression

N_TEACHER, N_STUDENT = 1000, (50, 100, 200)


def main() -> None:
    X, y = load_digits(return_X_y=True)
    X = X / 16
    results: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(y))
        own, students, test = np.split(order, [N_TEACHER, N_TEACHER + max(N_STUDENT)])
        teacher = MLPClassifier(alpha=1.0, max_iter=300, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of the network
            teacher.fit(X[own], y[own])
        for n in N_STUDENT:
            few = students[:n]
            models = {
                "labels": SoftmaxRegression(C=100).fit(X[few], y[few]),
                "probabilities": SoftmaxRegression(C=100).fit(
                    X[few], teacher.predict_proba(X[few])
                ),
                "(the network)": teacher,
            }
            for name, model in models.items():
                proba = model.predict_proba(X[test])
                accuracy = np.mean(proba.argmax(axis=1) == y[test])
                scores = accuracy, log_loss(y[test], proba)
                results.setdefault((n, name), []).append(scores)
    print(f"{'learned from':26}accuracy  log-loss   (means of 5 seeds)")
    for (n, name), scores in results.items():
        accuracy, loss = np.mean(scores, axis=0)
        print(f"{n:4} rows' {name:15}{accuracy:8.3f}{loss:10.3f}")


if __name__ == "__main__":
    main()
