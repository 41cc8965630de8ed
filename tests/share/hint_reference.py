"""Writes PyTorch's loss and gradients of a student with a hint, for hint_test.cpp to compare with.

usage: hint_reference.py FILE

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

SAMPLES = 16
WEIGHT = 0.3


def main():
    torch.manual_seed(5)
    tensors = {
        "student.conv1.weight": torch.randn(4, 2, 3, 3) * 0.3,
        "student.conv1.bias": torch.randn(4) * 0.1,
        "student.dense1.weight": torch.randn(3, 4 * 4 * 4) * 0.2,
        "student.dense1.bias": torch.randn(3) * 0.1,
        "teacher.conv1.weight": torch.randn(5, 2, 4, 4) * 0.3,
        "teacher.conv1.bias": torch.randn(5) * 0.1,
        "student.hint.projection.weight": torch.randn(5, 4, 2, 2) * 0.3,
        "student.hint.projection.bias": torch.randn(5) * 0.1,
    }
    inputs = torch.randn(SAMPLES, 2, 6, 6).double()
    labels = torch.randint(0, 3, (SAMPLES,))
    t = {name: tensor.double().requires_grad_(name.startswith("student")) for name, tensor in tensors.items()}

    hinted = torch.tanh(functional.conv2d(inputs, t["student.conv1.weight"], t["student.conv1.bias"]))
    outputs = functional.linear(hinted.flatten(1), t["student.dense1.weight"], t["student.dense1.bias"])
    wanted = torch.tanh(functional.conv2d(inputs, t["teacher.conv1.weight"], t["teacher.conv1.bias"]))
    found = functional.conv2d(hinted, t["student.hint.projection.weight"], t["student.hint.projection.bias"])
    hint = 0.5 * (wanted - found).square().flatten(1).sum(1).mean()
    loss = functional.cross_entropy(outputs, labels) + WEIGHT * hint
    loss.backward()

    with open(pathlib.Path(sys.argv[1]), "wb") as file:

        def write(name, tensor):
            values = tensor.detach().double().numpy().astype("<f8").ravel()
            file.write(f"{name} {values.size}\n".encode() + values.tobytes())

        write("inputs", inputs)
        write("labels", labels)
        write("loss", loss.reshape(1))
        for name, tensor in t.items():
            write(name, tensor)
            if tensor.grad is not None:
                write(f"gradient.{name}", tensor.grad)
    print(f"a hint by PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
