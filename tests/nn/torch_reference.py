"""Writes what PyTorch computes for small models, for test_torch.cpp to compare with.

usage: torch_reference.py DIRECTORY

One file a case, a sequence of records: a line "name count", then count little-endian float32 values (for
"spec" and "objective": count bytes of text). Exit code 77 when PyTorch is not installed.
"""

import json
import pathlib
import shutil
import sys

try:
    import torch
except ImportError as error:
    print(f"skipped: {error}; install Debian's python3-torch to compare with PyTorch")
    sys.exit(77)

STEPS = 3
LEARNING_RATE = 0.05


def layer(kind, **settings):
    return {"kind": kind, **settings}


def conv(filters, kernel, **settings):
    return layer("conv2d", filters=filters, kernel=kernel, **settings)


def dense(units, **settings):
    return layer("dense", units=units, **settings)


DIGITS_CNN = [
    conv(32, 3), layer("relu"), layer("max_pool2d", kernel=2),
    conv(64, 3), layer("relu"), layer("max_pool2d", kernel=2),
    conv(64, 3), layer("relu"), layer("flatten"), dense(64), layer("relu"), dense(10),
]  # fmt: skip

RELU = layer("relu")
FLATTEN = layer("flatten")


def max_pool(kernel, **settings):
    return layer("max_pool2d", kernel=kernel, **settings)


# name: (batch, input shape, layers, objective). The last layer's units are the classes. Layers in the middle
# have layers with parameters before them, so that the gradients of their inputs are compared as well. No bias
# before a batch norm: it would be taken away again with the mean, and its gradient is nothing but rounding.
CASES = {
    "digits_cnn": (16, (1, 28, 28), DIGITS_CNN, "cross_entropy"),
    "digits_cnn_squared_error": (16, (1, 28, 28), DIGITS_CNN, "mean_squared_error"),
    "dense": (7, (19,), [dense(33), RELU, dense(5, bias=False)], "cross_entropy"),
    "dense_squared_error": (7, (19,), [dense(33), RELU, dense(5)], "mean_squared_error"),
    "conv_colour": (
        5, (3, 11, 10),
        [conv(20, 3, padding=1), RELU, conv(17, 3, stride=2, bias=False), RELU, FLATTEN, dense(6)],
        "cross_entropy",
    ),
    "conv_large_kernel": (
        4, (4, 12, 12), [conv(16, 5, padding=2, stride=2), conv(8, 1), FLATTEN, dense(4)], "cross_entropy",
    ),
    "conv_groups": (
        4, (3, 13, 12),
        [
            conv(24, 3, padding=2, dilation=2), RELU, conv(36, 3, groups=4), RELU,
            conv(36, 3, padding=1, stride=2, groups=36, bias=False), conv(8, 1), FLATTEN, dense(4),
        ],
        "cross_entropy",
    ),
    "conv_pool_overlapping": (
        4, (3, 16, 15),
        [
            conv(16, 3), RELU, max_pool(3, stride=2, padding=1),
            conv(16, 3), max_pool(2), RELU, FLATTEN, dense(4),
        ],
        "cross_entropy",
    ),
    "conv_pool_gaps": (
        4, (2, 17, 19), [conv(24, 3), RELU, max_pool(2, stride=3), FLATTEN, dense(4)], "cross_entropy",
    ),
    "avg_pool": (
        4, (2, 13, 12),
        [conv(9, 3), RELU, layer("avg_pool2d", kernel=3, stride=2, padding=1), FLATTEN, dense(4)],
        "cross_entropy",
    ),
    "batch_norm": (
        8, (3, 12, 12),
        [
            conv(16, 3, bias=False), layer("batch_norm"), RELU, max_pool(2),
            conv(12, 3, bias=False), layer("batch_norm", momentum=0.3, epsilon=1e-3), RELU, FLATTEN,
            dense(24, bias=False), layer("batch_norm"), RELU, dense(4),
        ],
        "cross_entropy",
    ),
}  # fmt: skip


def make_module(spec, shape):
    kind = spec["kind"]
    if kind == "conv2d":
        return torch.nn.Conv2d(shape[0], spec["filters"], spec["kernel"], spec.get("stride", 1),
                               spec.get("padding", 0), spec.get("dilation", 1), spec.get("groups", 1),
                               bias=spec.get("bias", True))
    if kind == "dense":
        return torch.nn.Linear(shape[0], spec["units"], bias=spec.get("bias", True))
    if kind in ("max_pool2d", "avg_pool2d"):
        pool = torch.nn.MaxPool2d if kind == "max_pool2d" else torch.nn.AvgPool2d
        return pool(spec["kernel"], spec.get("stride", spec["kernel"]), spec.get("padding", 0))
    if kind == "batch_norm":
        norm = torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d
        return norm(shape[0], eps=spec.get("epsilon", 1e-5), momentum=spec.get("momentum", 0.1))
    return {"relu": torch.nn.ReLU, "flatten": torch.nn.Flatten}[kind]()


def make_model(layers, shape):
    """The module, and the specs with names as impart gives them."""
    short = {"conv2d": "conv", "max_pool2d": "pool", "avg_pool2d": "pool", "batch_norm": "bn"}
    model = torch.nn.Sequential()
    counts = {}
    specs = []
    for spec in layers:
        stem = short.get(spec["kind"], spec["kind"])
        counts[stem] = counts.get(stem, 0) + 1
        name = f"{stem}{counts[stem]}"
        specs.append({"kind": spec["kind"], "name": name, **{k: v for k, v in spec.items() if k != "kind"}})
        module = make_module(spec, shape)
        model.add_module(name, module)
        module.eval()
        with torch.no_grad():
            shape = tuple(module(torch.zeros(2, *shape)).shape[1:])
    return model, specs


class Writer:
    def __init__(self, path):
        self.file = open(path, "wb")

    def values(self, name, tensor):
        array = tensor.detach().numpy().astype("<f4").ravel()
        self.file.write(f"{name} {array.size}\n".encode() + array.tobytes())

    def text(self, name, text):
        self.file.write(f"{name} {len(text)}\n{text}".encode())


def loss_of(objective, outputs, labels):
    if objective == "cross_entropy":
        return torch.nn.functional.cross_entropy(outputs, labels)
    wanted = torch.nn.functional.one_hot(labels, outputs.shape[1]).float()
    return torch.nn.functional.mse_loss(outputs, wanted)


def write_state(writer, prefix, model):
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            writer.values(f"{prefix}.{name}", tensor)


def write_case(path, name, batch, shape, layers, objective):
    torch.manual_seed(1)
    model, specs = make_model(layers, shape)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith("bn"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    classes = layers[-1]["units"]
    writer = Writer(path)
    writer.text("spec", json.dumps({"name": name, "input": shape, "classes": classes, "layers": specs}))
    writer.text("objective", objective)
    inputs = torch.randn(STEPS, batch, *shape)
    labels = torch.randint(0, classes, (STEPS, batch))
    writer.values("inputs", inputs)
    writer.values("labels", labels)
    writer.values("learning_rate", torch.tensor([LEARNING_RATE]))
    write_state(writer, "before", model)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for step in range(STEPS):
        optimizer.zero_grad()
        outputs = model(inputs[step])
        loss = loss_of(objective, outputs, labels[step])
        loss.backward()
        if step == 0:
            writer.values("loss", loss.reshape(1))
            writer.values("outputs", outputs)
            for parameter_name, parameter in model.named_parameters():
                writer.values(f"gradient.{parameter_name}", parameter.grad)
        optimizer.step()
    write_state(writer, "after", model)
    model.eval()
    writer.values("evaluated", model(inputs[0]))


def main():
    torch.set_num_threads(1)
    directory = pathlib.Path(sys.argv[1])
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, case in CASES.items():
        write_case(directory / f"{name}.bin", name, *case)
    print(f"{len(CASES)} cases by PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
