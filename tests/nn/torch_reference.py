"""Writes what PyTorch computes for small models, for test_torch.cpp to compare with.

usage: torch_reference.py DIRECTORY TEXT

One file a case, a sequence of records: a line "name count", then count little-endian float32 values (for
"spec", "objective" and "frozen": count bytes of text). Exit code 77 when PyTorch is not installed.
"""

import json
import math
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
CHARACTER_STEPS = 20
CHARACTER_RATE = 0.2


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


def named(name, spec, *inputs):
    """A layer with a name of its own, and the layers that it reads when they are not the one before it."""
    return {**spec, "name": name, **({"from": list(inputs)} if inputs else {})}


NORM = layer("layer_norm")


def encoder(name, width, heads, inside, **attention):
    """A block named as torch.nn.TransformerEncoderLayer(norm_first=True); `inside` is what it reads."""
    attend = layer("multi_head_attention", heads=heads, **attention)
    return [
        named(f"{name}.norm1", NORM, inside),
        named(f"{name}.self_attn", attend),
        named(f"{name}.add1", layer("add"), inside, f"{name}.self_attn"),
        named(f"{name}.norm2", NORM),
        named(f"{name}.linear1", dense(2 * width)),
        named(f"{name}.gelu", layer("gelu")),
        named(f"{name}.linear2", dense(width)),
        named(f"{name}.add2", layer("add"), f"{name}.add1", f"{name}.linear2"),
    ]  # fmt: skip


# name: (batch, input shape, layers, objective), and perhaps the frozen layers. Layers in the middle have
# layers with parameters before them, so that the gradients of their inputs are compared as well. No bias
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
    "activations": (
        6, (20,),
        [
            dense(33), layer("relu6"), dense(32), layer("leaky_relu", negative_slope=0.1),
            dense(31), layer("gelu"), dense(30), layer("sigmoid"), dense(29), layer("tanh"),
            dense(28), layer("softmax"), dense(5),
        ],
        "cross_entropy",
    ),
    "dropout": (
        6, (20,), [dense(33), layer("dropout", rate=0.4), RELU, dense(8), layer("dropout", rate=0.2), dense(5)],
        "cross_entropy",
    ),
    "dropout_sequence": (4, (5, 7), [dense(6), layer("dropout", rate=0.3), dense(3)], "cross_entropy"),
    "adaptive_pools": (
        3, (2, 13, 11),
        [
            conv(9, 3), layer("adaptive_avg_pool2d", size=7), conv(8, 3, padding=1),
            layer("adaptive_max_pool2d", size=4), conv(7, 3, padding=1), layer("global_avg_pool2d"), dense(4),
        ],
        "cross_entropy",
    ),
    "adaptive_pool_larger": (
        3, (2, 5, 4), [conv(6, 3, padding=1), layer("adaptive_avg_pool2d", size=7), FLATTEN, dense(4)],
        "cross_entropy",
    ),
    "norms": (
        5, (3, 9, 8),
        [
            conv(12, 3), layer("group_norm", groups=4), RELU, conv(6, 3), layer("group_norm", groups=1),
            FLATTEN, dense(24), layer("layer_norm", epsilon=1e-3), RELU,
            dense(20), layer("group_norm", groups=5), dense(4),
        ],
        "cross_entropy",
    ),
    "residual": (
        4, (3, 10, 10),
        [
            named("stem", conv(8, 3, padding=1, bias=False)), named("stem.bn", layer("batch_norm")),
            named("in", RELU),
            named("layer1.0.conv1", conv(12, 3, stride=2, padding=1, bias=False)),
            named("layer1.0.bn1", layer("batch_norm")), named("layer1.0.relu", RELU),
            named("layer1.0.conv2", conv(12, 3, padding=1, bias=False)),
            named("layer1.0.bn2", layer("batch_norm")),
            named("layer1.0.downsample.0", conv(12, 1, stride=2, bias=False), "in"),
            named("layer1.0.downsample.1", layer("batch_norm")),
            named("sum", layer("add"), "layer1.0.bn2", "layer1.0.downsample.1"), named("out", RELU),
            named("pool", layer("global_avg_pool2d")), named("fc", dense(5)),
        ],
        "cross_entropy",
    ),
    "odd_graph": (  # an output read three times, one twice by the same layer, the input joined in again
        4, (3, 8, 8),
        [
            named("a", conv(6, 3, padding=1)), named("a.relu", RELU),
            named("b", conv(6, 1, bias=False), "a.relu"),
            named("c", conv(6, 3, padding=1, bias=False), "a.relu"), named("twice", layer("add"), "b", "b"),
            named("all", layer("add"), "a.relu", "twice", "c"),
            named("joined", layer("concat"), "all", "input"),
            named("d", conv(5, 3, bias=False)), named("d.bn", layer("batch_norm")), named("flat", FLATTEN),
            named("head", dense(4)),
        ],
        "cross_entropy",
    ),
    "frozen_branch": (
        4, (3, 8, 8),
        [
            named("a", conv(6, 3, padding=1, bias=False)), named("a.bn", layer("batch_norm")),
            named("a.relu", RELU),
            named("b", conv(6, 3, padding=1, bias=False), "input"), named("b.bn", layer("batch_norm")),
            named("sum", layer("add"), "a.relu", "b.bn"), named("c", conv(5, 3)), named("flat", FLATTEN),
            named("head", dense(4)),
        ],
        "cross_entropy", ["b", "b.bn"],
    ),
    "join_features": (
        5, (7,),
        [
            named("a", dense(6)), named("b", dense(4), "input"),
            named("joined", layer("concat"), "a", "b", "input"), named("a2", layer("gelu"), "a"),
            named("c", dense(6), "joined"), named("sum", layer("add"), "c", "a2", "a"),
            named("head", dense(3)),
        ],
        "cross_entropy",
    ),
    "sequence_dense": (4, (6, 5), [dense(9), RELU, dense(8), NORM, dense(3)], "cross_entropy"),
    "transformer_encoder": (
        3, (9,),
        [
            named("embedding", layer("embedding", vocabulary=11, width=12)),
            named("positions", layer("positional_encoding")),
            *encoder("layers.0", 12, 3, "positions"), *encoder("layers.1", 12, 2, "layers.0.add2"),
            named("norm", NORM), named("head", dense(11)),
        ],
        "cross_entropy",
    ),
    "transformer_causal": (
        3, (40,),
        [
            named("embedding", layer("embedding", vocabulary=30, width=48)),
            named("positions", layer("positional_encoding", encoding="learned")),
            *encoder("layers.0", 48, 1, "positions", causal=True), named("head", dense(30)),
        ],
        "cross_entropy",
    ),
    "transformer_decoder": (  # the first half of the blocks encodes what the second half attends to
        3, (9,),
        [
            named("embedding", layer("embedding", vocabulary=11, width=12)),
            named("positions", layer("positional_encoding")), *encoder("encoder.0", 12, 3, "positions"),
            named("norm1", NORM, "positions"),
            named("self_attn", layer("multi_head_attention", heads=2, causal=True)),
            named("add1", layer("add"), "positions", "self_attn"), named("norm2", NORM),
            named("multihead_attn", layer("multi_head_attention", heads=2), "norm2", "encoder.0.add2"),
            named("add2", layer("add"), "add1", "multihead_attn"),
            named("three", layer("multi_head_attention", heads=4), "add2", "encoder.0.add2",
                  "encoder.0.norm1"),
            named("head", dense(11)),
        ],
        "cross_entropy",
    ),
    "attention_over_features": (  # twice the same input, as queries and as memory
        3, (5, 8),
        [named("a", dense(8)), named("attn", layer("multi_head_attention", heads=2), "a", "a"), dense(3)],
        "mean_squared_error",
    ),
}  # fmt: skip


class Positions(torch.nn.Module):
    def __init__(self, shape, encoding):
        super().__init__()
        if encoding == "learned":
            self.weight = torch.nn.Parameter(torch.randn(shape))
            return
        steps, width = shape
        exponents = torch.arange(width) // 2 * 2 / width
        angles = torch.arange(steps)[:, None] * torch.exp(-math.log(10000) * exponents)
        waves = torch.where(torch.arange(width) % 2 == 0, torch.sin(angles), torch.cos(angles))
        self.register_buffer("weight", waves, persistent=False)

    def forward(self, x):
        return x + self.weight


class Attention(torch.nn.MultiheadAttention):
    def __init__(self, width, spec):
        super().__init__(width, spec["heads"], batch_first=True)
        self.causal = spec.get("causal", False)

    def forward(self, query, key=None, value=None):
        key = query if key is None else key
        value = key if value is None else value
        mask = torch.ones(query.shape[1], key.shape[1]).triu(1).bool() if self.causal else None
        return super().forward(query, key, value, attn_mask=mask, need_weights=False)[0]


MASK32 = (1 << 32) - 1
MASK64 = (1 << 64) - 1


def splitmix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK64
    return x ^ (x >> 31)


def philox4x32(counter, key):
    """Salmon et al. 2011, ten rounds."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK32, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK32]
        k = [(k[0] + 0x9E3779B9) & MASK32, (k[1] + 0xBB67AE85) & MASK32]
    return c


def uniform(purpose, sample, step, count):
    """The first numbers of impart's stream of that key, for seed 0."""
    name = 0xCBF29CE484222325
    for byte in purpose.encode():
        name = (name ^ byte) * 0x100000001B3 & MASK64
    key = splitmix64(splitmix64(splitmix64(name)) ^ step)
    words = []
    for block in range((count + 3) // 4):
        words += philox4x32([block, 0, sample, 0], [key & MASK32, key >> 32])
    return torch.tensor([(word >> 8) / 2**24 for word in words[:count]])


class Dropout(torch.nn.Module):
    """Drops the features that impart drops in each training step; the samples' ids are their places."""

    def __init__(self, name, rate):
        super().__init__()
        self.purpose, self.rate, self.step = f"dropout:{name}", rate, 0

    def forward(self, x):
        if not self.training:
            return x
        drawn = [uniform(self.purpose, sample, self.step, x[0].numel()) for sample in range(len(x))]
        self.step += 1
        return x * (torch.stack(drawn).reshape(x.shape) >= self.rate) / (1 - self.rate)


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def make_module(spec, shape):
    kind = spec["kind"]
    if kind == "conv2d":
        return torch.nn.Conv2d(shape[0], spec["filters"], spec["kernel"], spec.get("stride", 1),
                               spec.get("padding", 0), spec.get("dilation", 1), spec.get("groups", 1),
                               bias=spec.get("bias", True))
    if kind == "dense":
        return torch.nn.Linear(shape[-1], spec["units"], bias=spec.get("bias", True))
    if kind in ("max_pool2d", "avg_pool2d"):
        pool = torch.nn.MaxPool2d if kind == "max_pool2d" else torch.nn.AvgPool2d
        return pool(spec["kernel"], spec.get("stride", spec["kernel"]), spec.get("padding", 0))
    if kind == "batch_norm":
        norm = torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d
        return norm(shape[0], eps=spec.get("epsilon", 1e-5), momentum=spec.get("momentum", 0.1))
    make = {
        "relu": torch.nn.ReLU,
        "relu6": torch.nn.ReLU6,
        "leaky_relu": lambda: torch.nn.LeakyReLU(spec["negative_slope"]),
        "gelu": torch.nn.GELU,
        "sigmoid": torch.nn.Sigmoid,
        "tanh": torch.nn.Tanh,
        "softmax": lambda: torch.nn.Softmax(-1),
        "flatten": torch.nn.Flatten,
        "dropout": lambda: Dropout(spec["name"], spec["rate"]),
        "add": lambda: Function(lambda *inputs: sum(inputs)),
        "concat": lambda: Function(lambda *inputs: torch.cat(inputs, 1 if inputs[0].dim() == 4 else -1)),
        "global_avg_pool2d": lambda: Function(lambda x: x.mean((2, 3))),
        "adaptive_avg_pool2d": lambda: torch.nn.AdaptiveAvgPool2d(spec["size"]),
        "adaptive_max_pool2d": lambda: torch.nn.AdaptiveMaxPool2d(spec["size"]),
        "layer_norm": lambda: torch.nn.LayerNorm(shape[-1], eps=spec.get("epsilon", 1e-5)),
        "group_norm": lambda: torch.nn.GroupNorm(spec["groups"], shape[0]),
        "embedding": lambda: torch.nn.Embedding(spec["vocabulary"], spec["width"]),
        "positional_encoding": lambda: Positions(shape, spec.get("encoding", "sinusoidal")),
        "multi_head_attention": lambda: Attention(shape[-1], spec),
    }
    return make[kind]()


def path_of(name):
    """torch's modules have no dots in their names."""
    return name.replace(".", "/")


class Graph(torch.nn.Module):
    """The layers, with the specs as impart names them."""

    def __init__(self, layers, shape):
        super().__init__()
        short = {"conv2d": "conv", "max_pool2d": "pool", "avg_pool2d": "pool", "adaptive_avg_pool2d": "pool",
                 "adaptive_max_pool2d": "pool", "global_avg_pool2d": "pool", "batch_norm": "bn"}
        counts = {}
        self.specs = []
        before = "input"
        indices = layers[0]["kind"] == "embedding"
        values = {"input": torch.zeros((2, *shape), dtype=torch.long if indices else torch.float32)}
        for spec in layers:
            stem = short.get(spec["kind"], spec["kind"])
            if "name" not in spec:
                counts[stem] = counts.get(stem, 0) + 1
            self.specs.append({"name": f"{stem}{counts.get(stem, 0)}", **spec})
            sources = spec.get("from", [before])
            before = self.specs[-1]["name"]
            module = make_module(self.specs[-1], tuple(values[sources[0]].shape[1:]))
            self.add_module(path_of(before), module)
            module.eval()
            with torch.no_grad():
                values[before] = module(*(values[name] for name in sources))
        self.classes = values[before].shape[-1]

    def forward(self, x):
        values = {"input": x.long() if self.specs[0]["kind"] == "embedding" else x}
        before = "input"
        for spec in self.specs:
            module = self.get_submodule(path_of(spec["name"]))
            values[spec["name"]] = module(*(values[name] for name in spec.get("from", [before])))
            before = spec["name"]
        return values[before]


class Writer:
    def __init__(self, path):
        self.file = open(path, "wb")

    def values(self, name, tensor):
        array = tensor.detach().numpy().astype("<f4").ravel()
        self.file.write(f"{name} {array.size}\n".encode() + array.tobytes())

    def text(self, name, text):
        self.file.write(f"{name} {len(text)}\n{text}".encode())


def loss_of(objective, outputs, labels):
    outputs = outputs.reshape(-1, outputs.shape[-1])  # of a sequence: a row for each step
    if objective == "cross_entropy":
        return torch.nn.functional.cross_entropy(outputs, labels.reshape(-1))
    wanted = torch.nn.functional.one_hot(labels.reshape(-1), outputs.shape[1]).float()
    return torch.nn.functional.mse_loss(outputs, wanted)


def write_state(writer, prefix, model):
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            writer.values(f"{prefix}.{name.replace('/', '.')}", tensor)


def freeze(model, layers):
    """As impart does: no gradients, and a batch norm uses its running statistics."""
    for name in layers:
        module = model.get_submodule(path_of(name))
        module.eval()
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def write_case(path, name, batch, shape, layers, objective, frozen=()):
    torch.manual_seed(1)
    model = Graph(layers, shape)
    norms = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.GroupNorm, torch.nn.LayerNorm)
    for module in model.modules():
        if isinstance(module, norms):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, 0.5, 1.5)
        if isinstance(module, torch.nn.MultiheadAttention):
            torch.nn.init.normal_(module.in_proj_bias)
            torch.nn.init.normal_(module.out_proj.bias)
    writer = Writer(path)
    spec = {"name": name, "input": shape, "classes": model.classes, "layers": model.specs}
    writer.text("spec", json.dumps(spec))
    writer.text("objective", objective)
    writer.text("frozen", " ".join(frozen))
    inputs = torch.randn(STEPS, batch, *shape)
    if layers[0]["kind"] == "embedding":
        inputs = torch.randint(0, layers[0]["vocabulary"], inputs.shape).float()
    rows = model(inputs[0]).shape[1:-1]
    labels = torch.randint(0, model.classes, (STEPS, batch, *rows))
    writer.values("batch", torch.tensor([float(batch)]))
    writer.values("inputs", inputs)
    writer.values("labels", labels)
    writer.values("learning_rate", torch.tensor([LEARNING_RATE]))
    write_state(writer, "before", model)
    model.train()
    freeze(model, frozen)
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
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                writer.values(f"gradient.{parameter_name.replace('/', '.')}", gradient)
        optimizer.step()
    write_state(writer, "after", model)
    model.eval()
    writer.values("evaluated", model(inputs[0]))


class CharacterModel(torch.nn.TransformerEncoder):
    """The zoo's transformer, of PyTorch's own parts."""

    def __init__(self, classes, width, heads, layers, context):
        block = torch.nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu",
                                                 batch_first=True, norm_first=True)
        super().__init__(block, layers, torch.nn.LayerNorm(width))
        self.embedding = torch.nn.Embedding(classes, width)
        self.positions = Positions((context, width), "sinusoidal")
        self.head = torch.nn.Linear(width, classes)
        self.hidden = torch.ones(context, context).triu(1).bool()

    def forward(self, x):
        return self.head(super().forward(self.positions(self.embedding(x.long())), self.hidden))


def write_characters(path, text):
    """Losses of the first steps of a model of the next character."""
    context, batch, width, heads, layers = 32, 16, 32, 4, 2
    characters = sorted(set(text))
    indices = torch.tensor([characters.index(c) for c in text])
    torch.manual_seed(1)
    model = CharacterModel(len(characters), width, heads, layers, context)
    writer = Writer(path)
    for name, value in (("classes", len(characters)), ("width", width), ("heads", heads), ("layers", layers),
                        ("context", context), ("batch", batch), ("learning_rate", CHARACTER_RATE)):
        writer.values(name, torch.tensor([float(value)]))
    write_state(writer, "before", model)
    optimizer = torch.optim.SGD(model.parameters(), lr=CHARACTER_RATE)
    for step in range(CHARACTER_STEPS):
        starts = (torch.arange(batch) + step * batch) * context
        windows = torch.stack([indices[start : start + context + 1] for start in starts])
        optimizer.zero_grad()
        outputs = model(windows[:, :-1])
        loss = loss_of("cross_entropy", outputs, windows[:, 1:])
        loss.backward()
        if step == 0:
            writer.values("outputs", outputs)
            for name, parameter in model.named_parameters():
                writer.values(f"gradient.{name}", parameter.grad)
        optimizer.step()
        if step == 0:
            write_state(writer, "after", model)
        writer.values(f"inputs.{step}", windows[:, :-1].float())
        writer.values(f"labels.{step}", windows[:, 1:].float())
        writer.values(f"loss.{step}", loss.reshape(1))


def main():
    torch.set_num_threads(1)
    directory = pathlib.Path(sys.argv[1])
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, case in CASES.items():
        write_case(directory / f"{name}.bin", name, *case)
    write_characters(directory / "characters.values", pathlib.Path(sys.argv[2]).read_bytes())
    print(f"{len(CASES)} cases by PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
