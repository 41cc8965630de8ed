"""Writes ridge and logistic regressions by scikit-learn, for solver_sklearn_test.cpp to compare with.

usage: solver_reference.py FILE

Records as tests/records.hpp reads them. Exit code 77 when scikit-learn is not installed.
"""

import sys

import numpy as np

try:
    import sklearn
    from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
except ImportError as error:
    print(f"skipped: {error}; install Debian's python3-sklearn to compare with scikit-learn")
    sys.exit(77)

SAMPLES, COLUMNS, CLASSES = 500, 12, 4
RIDGE = 3.0
L2 = 0.01


def logistic(x, y, scale, **settings):
    """Minimises the mean loss and L2 / 2 times the sum of squares; the mean is over `scale` problems, too."""
    model = LogisticRegression(C=1 / (L2 * len(x) * scale), tol=1e-12, max_iter=10000, **settings)
    return model.fit(x, y)


def main():
    draw = np.random.default_rng(2)
    labels = np.arange(SAMPLES) % CLASSES
    mix = draw.normal(size=(COLUMNS, COLUMNS))
    # Columns that depend on each other somewhat, and lie far from zero.
    x = draw.normal(size=(SAMPLES, COLUMNS)) + draw.normal(size=(CLASSES, COLUMNS))[labels]
    x = x @ mix + 10 * mix[0]
    x = x.astype(np.float32).astype(np.float64)
    one_hot = np.eye(CLASSES)[labels]
    half = labels % 2
    models = {
        "least_squares": LinearRegression().fit(x, one_hot),
        "least_squares_without_bias": LinearRegression(fit_intercept=False).fit(x, one_hot),
        "ridge": Ridge(RIDGE, solver="svd").fit(x, one_hot),
        "multinomial": logistic(x, labels, 1, solver="newton-cg", multi_class="multinomial"),
        "multinomial_without_bias":
            logistic(x, labels, 1, solver="newton-cg", multi_class="multinomial", fit_intercept=False),
        "one_vs_rest": logistic(x, labels, CLASSES, solver="newton-cholesky", multi_class="ovr"),
        # The second output of two binary models is scikit-learn's one; the first is its negative.
        "binary": logistic(x, half, 2, solver="newton-cholesky"),
        "binary_softmax": logistic(x, half, 1, solver="newton-cg", multi_class="multinomial"),
    }  # fmt: skip
    with open(sys.argv[1], "wb") as file:

        def write(name, values):
            values = np.asarray(values).astype("<f8").ravel()
            file.write(f"{name} {values.size}\n".encode() + values.tobytes())

        write("x", x)
        write("labels", labels)
        for name, model in models.items():
            write(f"{name}.weight", model.coef_)
            write(f"{name}.bias", model.intercept_)
    print(f"{len(models)} models by scikit-learn {sklearn.__version__}")


if __name__ == "__main__":
    main()
