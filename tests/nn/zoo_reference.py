"""Writes what PyTorch computes for models of the zoo, for test_zoo_torch.cpp to compare with.

usage: zoo_reference.py FILE

Records as tests/records.hpp reads them, all in double precision. Exit code 77 when PyTorch is not installed.
"""

import pathlib
import sys

import numpy

try:
    import torch
except ImportError as error:
    print(f"skipped: {error}; install Debian's python3-torch to compare with PyTorch")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import torch_models  # noqa: E402  it lies beside this folder

STEPS = 3
BATCH = 4
CLASSES = 10
LEARNING_RATE = 0.01
LARGEST = 40_000  # values of a tensor that is written, for models of full width

# name: (zoo name, settings, input shape, what is compared). "training": outputs and gradients, in three
# steps; "gradients": the first step only, of tensors that are not too large; "forward": outputs only.
CASES = {
    "resnet18": ("resnet18", {"stem": "cifar", "width": 0.25}, (3, 32, 32), "training"),
    "resnet50": ("resnet50", {"stem": "cifar", "width": 0.25}, (3, 32, 32), "training"),
    "vgg16": ("vgg16", {"stem": "cifar", "width": 0.25, "dropout": 0.0}, (3, 32, 32), "training"),
    "vgg16_bn": ("vgg16_bn", {"stem": "cifar", "width": 0.25, "dropout": 0.0}, (3, 32, 32), "training"),
    "mobilenet_v2": ("mobilenet_v2", {"stem": "cifar", "width": 0.25, "dropout": 0.0}, (3, 32, 32), "training"),
    "lenet5": ("lenet5", {}, (1, 28, 28), "training"),
    "mlp": ("mlp", {"hidden": [60, 40]}, (1, 28, 28), "training"),
    "logistic": ("logistic", {}, (1, 28, 28), "training"),
    "linear": ("linear", {}, (1, 28, 28), "training"),
    "svm": ("svm", {}, (1, 28, 28), "training"),
    "cnn": ("cnn", {}, (1, 28, 28), "training"),
    "resnet18_full": ("resnet18", {"stem": "cifar"}, (3, 32, 32), "gradients"),
    "mobilenet_v2_full": ("mobilenet_v2", {"stem": "cifar", "dropout": 0.0}, (3, 32, 32), "gradients"),
    "resnet18_imagenet": ("resnet18", {"width": 0.25}, (3, 64, 64), "training"),
    "resnet50_imagenet": ("resnet50", {"width": 0.25}, (3, 64, 64), "forward"),
    "vgg16_imagenet": ("vgg16", {"width": 0.125, "dropout": 0.0}, (3, 64, 64), "forward"),
    "mobilenet_v2_imagenet": ("mobilenet_v2", {"width": 0.25, "dropout": 0.0}, (3, 96, 96), "forward"),
}  # fmt: skip


def uniform(name, count):
    """Values in [-0.5, 0.5) that the test makes, too: both know the seed's name."""
    seed = numpy.uint64(14695981039346656037)
    with numpy.errstate(over="ignore"):
        for byte in name.encode():
            seed = (seed ^ numpy.uint64(byte)) * numpy.uint64(1099511628211)
        x = seed + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        x ^= x >> numpy.uint64(31)
    return (x >> numpy.uint64(40)).astype(numpy.float64) / 2**24 - 0.5


def initial_value(name, shape, normalises):
    """He's variance for weights; of a batch norm ("normalises") values that keep most rectifiers open and away from
    their kink, where the gradient of a deep network depends on rounding: PyTorch's own float32 is off by 1e-2 there.
    """
    values = uniform(name, int(numpy.prod(shape)))
    if len(shape) > 1:
        values *= numpy.sqrt(24 / numpy.prod(shape[1:]))
    elif not normalises or name.endswith("running_mean"):
        values *= 0.2
    elif name.endswith("weight"):
        values = 0.5 + 0.5 * values
    else:
        values = 1 + 0.2 * values
    return torch.from_numpy(values.astype(numpy.float32).astype(numpy.float64).reshape(shape))


def loss_of(arch, outputs, labels):
    """What makes the model what its name says."""
    if arch == "linear":
        return torch.nn.functional.mse_loss(outputs, torch.nn.functional.one_hot(labels, CLASSES).double())
    if arch == "svm":
        return torch.nn.functional.multi_margin_loss(outputs, labels)
    return torch.nn.functional.cross_entropy(outputs, labels)


class WithFront(torch.nn.Module):
    """A 1x1 convolution in front, whose gradient comes through the gradient of the model's input."""

    def __init__(self, model, channels):
        super().__init__()
        self.front = torch.nn.Conv2d(channels, channels, 1)
        self.model = model

    def forward(self, x):
        return self.model(self.front(x))


class Writer:
    def __init__(self, file, case):
        self.file, self.case = file, case

    def write(self, name, tensor):
        array = tensor.detach().numpy().astype("<f8").ravel()
        self.file.write(f"{self.case}/{name} {array.size}\n".encode() + array.tobytes())


def write_case(file, case, arch, settings, shape, what):
    made, _ = torch_models.make_model(arch, CLASSES, **settings)
    network = WithFront(made, shape[0]).double()
    names = {name: name.removeprefix("model.") for name in torch_models.tensors(network)}
    with torch.no_grad():
        for name, tensor in torch_models.tensors(network).items():
            normalises = name.rsplit(".", 1)[0] + ".running_mean" in names
            tensor.copy_(initial_value(f"{case}/{names[name]}", tuple(tensor.shape), normalises))
    count = BATCH * int(numpy.prod(shape))
    inputs = [torch.from_numpy(4 * uniform(f"{case}/input{i}", count)).reshape(BATCH, *shape) for i in range(STEPS)]
    labels = torch.arange(BATCH) * 7 % CLASSES
    writer = Writer(file, case)
    network.eval()
    with torch.no_grad():
        writer.write("evaluated", network(inputs[0]))
    if what == "forward":
        return
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    for step in range(STEPS if what == "training" else 1):
        optimizer.zero_grad()
        outputs = network(inputs[step])
        loss = loss_of(arch, outputs, labels)
        loss.backward()
        if step == 0:
            writer.write("outputs", outputs)
            for name, parameter in network.named_parameters():
                if what == "training" or parameter.numel() <= LARGEST:
                    writer.write(f"gradient/{names[name]}", parameter.grad)
        optimizer.step()
        for name, tensor in torch_models.tensors(network).items():
            is_buffer = name.rsplit(".", 1)[-1].startswith("running")
            if what == "training" and (step == STEPS - 1 if is_buffer else step == 0):
                writer.write(f"after/{names[name]}", tensor)


def main():
    torch.set_num_threads(1)
    path = pathlib.Path(sys.argv[1])
    with open(path, "wb") as file:
        for case, settings in CASES.items():
            write_case(file, case, *settings)
    print(f"{len(CASES)} cases by PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
