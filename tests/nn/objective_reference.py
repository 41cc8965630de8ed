"""Writes PyTorch's losses and gradients, for test_objective_torch.cpp to compare with.

usage: objective_reference.py FILE

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

ROWS = 12
CLASSES = 5
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.25, 3.0], dtype=torch.float64)

# Of (outputs, labels, one-hot or mixed targets): the mean over the batch.
LOSSES = {
    "cross_entropy": lambda z, y, t: functional.cross_entropy(z, t),
    "cross_entropy_smoothed": lambda z, y, t: functional.cross_entropy(z, t, label_smoothing=0.1),
    "cross_entropy_weighted": lambda z, y, t: functional.cross_entropy(z, y, WEIGHTS),
    "cross_entropy_both": lambda z, y, t: functional.cross_entropy(z, y, WEIGHTS, label_smoothing=0.2),
    "binary_cross_entropy": lambda z, y, t: functional.binary_cross_entropy_with_logits(z, t),
    "mean_squared_error": lambda z, y, t: functional.mse_loss(z, t),
    "l1": lambda z, y, t: functional.l1_loss(z, t),
    "huber": lambda z, y, t: functional.huber_loss(z, t, delta=0.7),
    # A support vector machine a class: PyTorch's operations, for it has no such loss.
    "hinge": lambda z, y, t: (t * torch.relu(1 - z) + (1 - t) * torch.relu(1 + z)).mean(),
    "multiclass_hinge": lambda z, y, t: functional.multi_margin_loss(z, y, margin=0.8),
    "multiclass_hinge_squared": lambda z, y, t: functional.multi_margin_loss(z, y, p=2),
    "kl": lambda z, y, t: functional.kl_div(
        torch.log_softmax(z, 1), 0.7 * t + 0.3 / CLASSES, reduction="batchmean"),
}  # fmt: skip
NEEDS_LABELS = (
    "cross_entropy_weighted", "cross_entropy_both", "multiclass_hinge", "multiclass_hinge_squared",
)  # fmt: skip


def main():
    torch.manual_seed(3)
    with open(pathlib.Path(sys.argv[1]), "wb") as file:

        def write(name, tensor):
            values = tensor.detach().double().numpy().astype("<f8").ravel()
            file.write(f"{name} {values.size}\n".encode() + values.tobytes())

        outputs = (3 * torch.randn(ROWS, CLASSES)).double().requires_grad_()
        labels = torch.randint(0, CLASSES, (ROWS,))
        others = torch.randint(0, CLASSES, (ROWS,))
        share = torch.rand(ROWS).double()
        one_hot = functional.one_hot(labels, CLASSES).double()
        mixed = share[:, None] * one_hot + (1 - share[:, None]) * functional.one_hot(others, CLASSES)
        for name, tensor in {"outputs": outputs, "labels": labels, "others": others, "share": share}.items():
            write(name, tensor)
        for name, loss_of in LOSSES.items():
            for suffix, targets in {"": one_hot, ".mixed": mixed}.items():
                if suffix and name in NEEDS_LABELS:
                    continue
                loss = loss_of(outputs, labels, targets)
                write(f"{name}{suffix}.loss", loss.reshape(1))
                write(f"{name}{suffix}.gradient", torch.autograd.grad(loss, outputs)[0])
    print(f"{len(LOSSES)} losses by PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
