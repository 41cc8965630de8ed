"""Writes ten steps of each optimizer, by PyTorch, or, for LARS and LAMB, as their papers give them.

usage: optimizer_reference.py FILE

Records as tests/records.hpp reads them. Exit code 77 when PyTorch is not installed.
"""

import sys

import numpy as np

try:
    import torch
except ImportError as error:
    print(f"skipped: {error}; install Debian's python3-torch to compare with PyTorch")
    sys.exit(77)

STEPS = 10
SHAPES = [(6, 4, 3, 3), (6,), (5, 33)]


def by_torch(make, before, gradients, clip=None):
    tensors = [torch.tensor(w, requires_grad=True) for w in before]
    optimizer = make(tensors)
    for step in gradients:
        for tensor, g in zip(tensors, step):
            tensor.grad = torch.tensor(g)
        if clip:
            clip(tensors)
        optimizer.step()
    return [tensor.detach().numpy() for tensor in tensors]


def lars(before, gradients, rate=0.5, momentum=0.9, decay=1e-2, trust=0.02):
    """You, Gitman and Ginsburg 2017, algorithm 1; tensors of one extent get the plain rate and no decay."""
    weights = [w.copy() for w in before]
    velocity = [np.zeros_like(w) for w in before]
    for step in gradients:
        for w, v, g in zip(weights, velocity, step):
            local, beta = 1.0, 0.0
            if w.ndim > 1:
                beta = decay
                local = trust * np.linalg.norm(w) / (np.linalg.norm(g) + beta * np.linalg.norm(w))
            v[...] = momentum * v + rate * local * (g + beta * w)
            w -= v
    return weights


def lamb(before, gradients, rate=0.02, beta1=0.9, beta2=0.999, epsilon=1e-6, decay=0.05):
    """You et al. 2020, algorithm 2, with phi the identity; the same exception."""
    weights = [w.copy() for w in before]
    means = [np.zeros_like(w) for w in before]
    squares = [np.zeros_like(w) for w in before]
    for t, step in enumerate(gradients, 1):
        for w, m, v, g in zip(weights, means, squares, step):
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * g * g
            r = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
            ratio = 1.0
            if w.ndim > 1:
                r = r + decay * w
                ratio = np.linalg.norm(w) / np.linalg.norm(r)
            w -= rate * ratio * r
    return weights


def main():
    draw = np.random.default_rng(5)
    before = [draw.normal(size=shape) for shape in SHAPES]
    gradients = [[draw.normal(size=shape) for shape in SHAPES] for _ in range(STEPS)]
    # What impart starts from is float32.
    before = [w.astype(np.float32).astype(np.float64) for w in before]
    gradients = [[g.astype(np.float32).astype(np.float64) for g in step] for step in gradients]
    optim = torch.optim
    utils = torch.nn.utils
    cases = {
        "sgd": by_torch(lambda p: optim.SGD(p, 0.1, weight_decay=0.01), before, gradients),
        "momentum": by_torch(lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.01), before, gradients),
        "nesterov": by_torch(
            lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True), before, gradients),
        "adam": by_torch(lambda p: optim.Adam(p, 0.05, weight_decay=0.1), before, gradients),
        "adamw": by_torch(lambda p: optim.AdamW(p, 0.05, weight_decay=0.1), before, gradients),
        "rmsprop": by_torch(lambda p: optim.RMSprop(p, 0.02, weight_decay=0.1), before, gradients),
        "rmsprop_momentum": by_torch(lambda p: optim.RMSprop(p, 0.02, 0.9, momentum=0.8), before, gradients),
        "rmsprop_centered": by_torch(lambda p: optim.RMSprop(p, 0.02, centered=True), before, gradients),
        "rmsprop_both": by_torch(
            lambda p: optim.RMSprop(p, 0.02, momentum=0.8, centered=True), before, gradients),
        "clip_norm": by_torch(lambda p: optim.SGD(p, 0.1, 0.9), before, gradients,
                              lambda p: utils.clip_grad_norm_(p, 3.0)),
        "clip_value": by_torch(lambda p: optim.SGD(p, 0.1, 0.9), before, gradients,
                               lambda p: utils.clip_grad_value_(p, 0.5)),
        "lars": lars(before, gradients),
        "lamb": lamb(before, gradients),
    }  # fmt: skip
    with open(sys.argv[1], "wb") as file:

        def write(name, arrays):
            values = np.concatenate([array.ravel() for array in arrays]).astype("<f8")
            file.write(f"{name} {values.size}\n".encode() + values.tobytes())

        write("before", before)
        write("gradients", [g for step in gradients for g in step])
        for name, after in cases.items():
            write(f"after.{name}", after)
    print(f"{len(cases)} optimizers by PyTorch {torch.__version__} and NumPy {np.__version__}")


if __name__ == "__main__":
    main()
