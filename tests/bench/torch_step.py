"""PyTorch's side of versus_torch.py and versus_ddp.py: a model of impart's zoo, and one step."""
import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import torch_models  # noqa: E402

WITH_STEM = ("resnet18", "resnet50", "vgg16", "vgg16_bn", "mobilenet_v2")


def prepare(model, batch, wrap=None):
    """The network, in `wrap` if that is given, and a function that trains it one step on `batch` random samples."""
    torch.set_num_threads(1)
    torch.manual_seed(7)
    small = {"stem": "cifar"} if model in WITH_STEM else {}
    network, shape = torch_models.make_model(model, classes=10, **small)
    network.train()
    if wrap is not None:
        network = wrap(network)
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    samples = torch.randn(batch, *shape)
    labels = torch.randint(0, 10, (batch,))

    def step():
        optimizer.zero_grad()
        loss_of(network(samples), labels).backward()
        optimizer.step()

    return network, step
