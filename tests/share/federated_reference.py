"""Writes clients' data and the weights after federated rounds on them, by plain NumPy.

usage: federated_reference.py FILE

The model is softmax regression, and every step of a client takes all of its samples, so that no order counts.
Records as tests/records.hpp reads them. Exit code 77 when NumPy is not installed.
"""

import sys

try:
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}; install Debian's python3-numpy to compare with NumPy")
    sys.exit(77)

FEATURES, CLASSES, STEPS = 5, 3, 6  # of a client in a round
SIZES = [7, 12, 5, 20, 9]
# Who trains in each round: select_clients of federated_reference_test.cpp, which compares.
CHOSEN = [[0, 2, 4], [1, 2, 3], [1, 2, 3], [1, 3, 4]]
RATE = 0.3


def gradient(w, x, labels):
    """Of the mean cross entropy, at weights (CLASSES, FEATURES + 1), whose last column is the bias."""
    inputs = np.hstack([x, np.ones((len(x), 1))])
    logits = inputs @ w.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(x)), labels] -= 1
    return p.T @ inputs / len(x)


def fedavg(clients, w, mu=0.0):
    """McMahan et al. 2017, algorithm 1; with mu, FedProx: Li et al. 2020, eq. 2."""
    for chosen in CHOSEN:
        total = sum(SIZES[k] for k in chosen)
        mean = np.zeros_like(w)
        for k in chosen:
            y = w.copy()
            for _ in range(STEPS):
                y -= RATE * (gradient(y, *clients[k]) + mu * (y - w))
            mean += SIZES[k] / total * y
        w = mean
    return w


def scaffold(clients, w, server_rate=1.0, rate_of=lambda step: RATE):
    """Karimireddy et al. 2020, algorithm 1, option II; `rate_of` a client's step, counted over all rounds."""
    c = np.zeros_like(w)
    own = [np.zeros_like(w) for _ in clients]
    for r, chosen in enumerate(CHOSEN):
        rates = [rate_of(r * STEPS + k) for k in range(STEPS)]
        dy, dc = np.zeros_like(w), np.zeros_like(w)
        for k in chosen:
            y = w.copy()
            for rate in rates:
                y -= rate * (gradient(y, *clients[k]) - own[k] + c)
            after = own[k] - c + (w - y) / sum(rates)
            dy += (y - w) / len(chosen)
            dc += (after - own[k]) / len(chosen)
            own[k] = after
        w = w + server_rate * dy
        c = c + len(chosen) / len(clients) * dc
    return w


def main():
    generator = np.random.default_rng(9)
    clients = []
    for k, size in enumerate(SIZES):
        x = (generator.normal(size=(size, FEATURES)) + k / 2).astype(np.float32)
        clients.append((x.astype(np.float64), generator.integers(0, CLASSES, size) * (generator.random(size) < 0.7)))
    start = generator.normal(size=(CLASSES, FEATURES + 1)).astype(np.float32).astype(np.float64)
    with open(sys.argv[1], "wb") as out:
        def record(name, values):
            values = np.ravel(values).astype("<f8")
            out.write(f"{name} {values.size}\n".encode() + values.tobytes())

        def record_weights(name, w):
            record(name, np.concatenate([w[:, :-1].ravel(), w[:, -1]]))  # weight, then bias

        for k, (x, labels) in enumerate(clients):
            record(f"samples{k}", x)
            record(f"labels{k}", labels)
        record("chosen", CHOSEN)
        record_weights("start", start)
        record_weights("fedavg", fedavg(clients, start))
        record_weights("fedprox", fedavg(clients, start, mu=0.5))
        record_weights("scaffold", scaffold(clients, start))
        record_weights("scaffold_scheduled", scaffold(clients, start, 0.7, lambda step: RATE * 0.5 ** (step // 4)))


main()
