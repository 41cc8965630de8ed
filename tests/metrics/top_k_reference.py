"""Writes top-k accuracies by scikit-learn, for top_k_accuracy_test.cpp to compare with.

usage: top_k_reference.py FILE

Records as tests/records.hpp reads them. Exit code 77 when scikit-learn is not installed.
"""

import sys

import numpy as np

try:
    import sklearn
    from sklearn.metrics import top_k_accuracy_score
except ImportError as error:
    print(f"skipped: {error}; install Debian's python3-sklearn to compare with scikit-learn")
    sys.exit(77)

SAMPLES, CLASSES = 400, 12


def main():
    draw = np.random.default_rng(3)
    labels = draw.integers(CLASSES, size=SAMPLES)
    distinct = draw.normal(size=(SAMPLES, CLASSES)).astype(np.float32)
    # Votes, of which many are equal.
    tied = draw.integers(4, size=(SAMPLES, CLASSES)).astype(np.float32)
    with open(sys.argv[1], "wb") as file:

        def write(name, values):
            values = np.asarray(values).astype("<f8").ravel()
            file.write(f"{name} {values.size}\n".encode() + values.tobytes())

        write("labels", labels)
        for name, outputs in {"distinct": distinct, "tied": tied}.items():
            write(name, outputs)
            scores = [top_k_accuracy_score(labels, outputs, k=k, labels=range(CLASSES)) for k in range(1, CLASSES)]
            write(f"{name}.accuracies", scores)
    print(f"top-k accuracies by scikit-learn {sklearn.__version__}")


if __name__ == "__main__":
    main()
