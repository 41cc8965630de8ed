"""The zoo's models in plain PyTorch, with torchvision's structure, names and initial distributions.

Debian has no torchvision. What is here follows torchvision/models/{resnet,vgg,mobilenetv2}.py, with the
settings that impart's zoo adds: stem ("imagenet" or "cifar"), width, dropout.
"""
import collections

import torch
from torch import nn


def conv(inputs, outputs, kernel, stride=1, groups=1, bias=False):
    made = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=bias)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    if bias:
        nn.init.zeros_(made.bias)
    return made


def linear(inputs, outputs):
    made = nn.Linear(inputs, outputs)
    nn.init.normal_(made.weight, 0, 0.01)
    nn.init.zeros_(made.bias)
    return made


def divisible(wanted):
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class Block(nn.Module):
    """torchvision's BasicBlock, and its Bottleneck."""

    def __init__(self, inputs, channels, stride, bottleneck):
        super().__init__()
        outputs = 4 * channels if bottleneck else channels
        plan = [(channels, 1, 1), (channels, 3, stride), (outputs, 1, 1)] if bottleneck else \
               [(channels, 3, stride), (channels, 3, 1)]
        self.steps = len(plan)
        last = inputs
        for i, (filters, kernel, by) in enumerate(plan, 1):
            self.add_module(f"conv{i}", conv(last, filters, kernel, by))
            self.add_module(f"bn{i}", nn.BatchNorm2d(filters))
            last = filters
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i in range(1, self.steps + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.steps:
                y = nn.functional.relu(y, inplace=True)
        y += x if self.downsample is None else self.downsample(x)
        return nn.functional.relu(y, inplace=True)


class ResNet(nn.Module):
    def __init__(self, blocks, bottleneck, classes, stem, width):
        super().__init__()
        inputs = divisible(64 * width)
        cifar = stem == "cifar"
        self.conv1 = conv(3, inputs, 3) if cifar else conv(3, inputs, 7, 2)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        for stage, count in enumerate(blocks):
            channels = divisible((64 << stage) * width)
            layers = []
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Block(inputs, channels, stride, bottleneck))
                inputs = 4 * channels if bottleneck else channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.maxpool(nn.functional.relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Vgg(nn.Module):
    def __init__(self, normalised, classes, stem, width, dropout):
        super().__init__()
        layers, inputs = [], 3
        for filters in [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]:
            if filters == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            outputs = divisible(filters * width)
            layers.append(conv(inputs, outputs, 3, bias=True))
            if normalised:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU(inplace=True))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        extent = 1 if stem == "cifar" else 7
        hidden = divisible((512 if stem == "cifar" else 4096) * width)
        self.avgpool = nn.AdaptiveAvgPool2d(extent)
        self.classifier = nn.Sequential(
            linear(inputs * extent * extent, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), linear(hidden, classes))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def norm_relu6(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Sequential(conv(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs),
                         nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride):
        super().__init__()
        inner = inputs * expansion
        steps = [norm_relu6(inputs, inner, 1)] if expansion != 1 else []
        steps += [norm_relu6(inner, inner, 3, stride, inner), conv(inner, outputs, 1), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*steps)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes, stem, width, dropout):
        super().__init__()
        cifar = stem == "cifar"
        channels = divisible(32 * width)
        layers = [norm_relu6(3, channels, 3, 1 if cifar else 2)]
        for expansion, outputs, count, stride in [(1, 16, 1, 1), (6, 24, 2, 1 if cifar else 2), (6, 32, 3, 2),
                                                  (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
            outputs = divisible(outputs * width)
            for block in range(count):
                layers.append(InvertedResidual(channels, outputs, expansion, stride if block == 0 else 1))
                channels = outputs
        last = divisible(1280 * max(1.0, width))
        layers.append(norm_relu6(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), linear(last, classes))

    def forward(self, x):
        return self.classifier(nn.functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def cnn(classes):
    """inputs/digits.toml's network: 93,322 parameters."""
    return nn.Sequential(collections.OrderedDict([
        ("conv1", nn.Conv2d(1, 32, 3)), ("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(2)),
        ("conv2", nn.Conv2d(32, 64, 3)), ("relu2", nn.ReLU()), ("pool2", nn.MaxPool2d(2)),
        ("conv3", nn.Conv2d(64, 64, 3)), ("relu3", nn.ReLU()), ("flatten1", nn.Flatten()),
        ("dense1", nn.Linear(576, 64)), ("relu4", nn.ReLU()), ("dense2", nn.Linear(64, classes))]))


def lenet5(classes):
    return nn.Sequential(collections.OrderedDict([
        ("conv1", nn.Conv2d(1, 6, 5, padding=2)), ("tanh1", nn.Tanh()), ("pool1", nn.AvgPool2d(2)),
        ("conv2", nn.Conv2d(6, 16, 5)), ("tanh2", nn.Tanh()), ("pool2", nn.AvgPool2d(2)), ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(400, 120)), ("tanh3", nn.Tanh()), ("fc2", nn.Linear(120, 84)), ("tanh4", nn.Tanh()),
        ("fc3", nn.Linear(84, classes))]))


def mlp(classes, hidden=(1200, 1200)):
    layers, inputs = [("flatten", nn.Flatten())], 784
    for i, width in enumerate(hidden, 1):
        layers += [(f"fc{i}", nn.Linear(inputs, width)), (f"relu{i}", nn.ReLU())]
        inputs = width
    layers.append((f"fc{len(hidden) + 1}", nn.Linear(inputs, classes)))
    return nn.Sequential(collections.OrderedDict(layers))


def one_layer(classes):
    return nn.Sequential(collections.OrderedDict([("flatten", nn.Flatten()), ("fc", nn.Linear(784, classes))]))


def make_model(name, classes=10, **settings):
    """The module, and the shape of one sample."""
    if name in ("cnn", "lenet5", "mlp", "linear", "logistic", "svm"):
        makers = {"cnn": cnn, "lenet5": lenet5, "mlp": mlp}
        return makers.get(name, one_layer)(classes, **settings), (1, 28, 28)
    stem = settings.setdefault("stem", "imagenet")
    settings.setdefault("width", 1.0)
    if name in ("resnet18", "resnet50"):
        blocks = (2, 2, 2, 2) if name == "resnet18" else (3, 4, 6, 3)
        model = ResNet(blocks, name == "resnet50", classes, **settings)
    elif name in ("vgg16", "vgg16_bn"):
        settings.setdefault("dropout", 0.5)
        model = Vgg(name == "vgg16_bn", classes, **settings)
    elif name == "mobilenet_v2":
        settings.setdefault("dropout", 0.2)
        model = MobileNetV2(classes, **settings)
    else:
        raise ValueError(f"unknown model '{name}'")
    return model, (3, 32, 32) if stem == "cifar" else (3, 224, 224)


def tensors(model):
    """Names and tensors as impart has them."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}
