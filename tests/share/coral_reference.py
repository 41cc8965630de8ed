"""Writes PyTorch's loss and gradients of a model with deep CORAL, for coral_test.cpp to compare with.

usage: coral_reference.py FILE

Records as tests/records.hpp reads them. Exit code 77 when PyTorch is not installed.
"""

import pathlib
import sys

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    print(f"skipped: {error}; install Debian's python3-torch to compare with PyTorch")
    sys.exit(77)

SHARDS = 4
SOURCE = 6  # samples of a shard
TARGET = 4
WEIGHT = 0.7


def coral(source, target):
    """Sun and Saenko 2016, equation 1, with torch.cov's division by n - 1."""
    width = source.shape[1]
    return (torch.cov(source.T) - torch.cov(target.T)).square().sum() / (4 * width**2)


def main():
    torch.manual_seed(6)
    tensors = {
        "dense1.weight": torch.randn(6, 5) * 0.5,
        "dense1.bias": torch.randn(6) * 0.1,
        "dense2.weight": torch.randn(3, 6) * 0.5,
        "dense2.bias": torch.randn(3) * 0.1,
    }
    t = {name: tensor.double().requires_grad_() for name, tensor in tensors.items()}
    source = torch.randn(SHARDS * SOURCE, 5).double()
    target = 0.5 + 2 * torch.randn(SHARDS * TARGET, 5).double()
    labels = torch.randint(0, 3, (SHARDS * SOURCE,))

    def features(x):
        return torch.tanh(functional.linear(x, t["dense1.weight"], t["dense1.bias"]))

    def outputs(x):
        return functional.linear(features(x), t["dense2.weight"], t["dense2.bias"])

    with open(pathlib.Path(sys.argv[1]), "wb") as file:

        def write(name, tensor):
            values = tensor.detach().double().numpy().astype("<f8").ravel()
            file.write(f"{name} {values.size}\n".encode() + values.tobytes())

        write("source", source)
        write("target", target)
        write("labels", labels)
        for name, tensor in t.items():
            write(name, tensor)
        for layer, of in {"tanh1": features, "": outputs}.items():
            parts = [
                coral(of(source[i * SOURCE : (i + 1) * SOURCE]), of(target[i * TARGET : (i + 1) * TARGET]))
                for i in range(SHARDS)
            ]
            loss = functional.cross_entropy(outputs(source), labels) + WEIGHT * sum(parts) / SHARDS
            write(f"{layer}.loss", loss.reshape(1))
            for name, gradient in zip(t, torch.autograd.grad(loss, list(t.values()))):
                write(f"{layer}.gradient.{name}", gradient)
    print(f"deep CORAL by PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
