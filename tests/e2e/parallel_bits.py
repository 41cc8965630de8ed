#!/usr/bin/env python3
"""Real models on real images over many kinds of ranks: whose bits are equal, and whose losses. Prints one JSON object.

    tests/e2e/parallel_bits.py --epochs 3 --samples 256

A CNN with dropout and augmentation and a ResNet-18 of half the width with batch norm, on CIFAR-10: equal bits on 1, 2,
4 and 8 ranks, on 1 and 3 with 6 shards, whoever sums the gradients, and after a stop on 4 ranks and an end on 2. The
losses of the first 20 steps of these and of a transformer with their tensors split, against one rank. A state saved by
a mesh of 2 x 2 that goes on on 4 ranks and on one. Ends with code 1 when something is not as it should be.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 20
TOLERANCE = 1e-5  # of a loss, relative
OPTIMIZER = '{ kind = "sgd", learning_rate = 0.05, momentum = 0.9, weight_decay = 5e-4, nesterov = true }'
# ResNet-18 amplifies rounding: at a rate of 0.005 another instruction set, too, changes its loss by 1% in 20 steps.
SLOW = {"cnn": '{ kind = "sgd", learning_rate = 0.01, momentum = 0.9 }',
        "resnet18": '{ kind = "sgd", learning_rate = 2e-5 }',
        "transformer": '{ kind = "adamw", learning_rate = 1e-3 }'}

IMAGES = """
[run]
name = "t"
seed = 3
shards = {shards}
overlap = "{overlap}"

[dataset.cifar]
format = "cifar"
files = ["{images}"]
limit = {{ train = {limit} }}

[model.cnn]
input = [3, 32, 32]
classes = 10
layers = [
  {{ kind = "conv2d", filters = 16, kernel = 3, padding = 1 }}, {{ kind = "relu" }},
  {{ kind = "max_pool2d", kernel = 2 }},
  {{ kind = "conv2d", filters = 32, kernel = 3, padding = 1 }}, {{ kind = "relu" }},
  {{ kind = "max_pool2d", kernel = 2 }},
  {{ kind = "flatten" }}, {{ kind = "dense", units = 64 }}, {{ kind = "relu" }}, {{ kind = "dropout", rate = 0.5 }},
  {{ kind = "dense", units = 10 }},
]

[model.resnet18]
input = [3, 32, 32]
classes = 10
arch = "resnet18"
stem = "cifar"
width = 0.5

[[stage]]
name = "model"
kind = "train"
model = "{model}"
dataset = "cifar"
epochs = {epochs}
batch_size = {batch}
optimizer = {optimizer}
augment = [ {{ kind = "flip" }}, {{ kind = "crop", padding = 4 }} ]
{more}
"""
TEXT = """
[run]
name = "t"
seed = 3

[dataset.gpl]
format = "text"
file = "{text}"
classes = 76
context = 64
stride = 1024

[model.transformer]
arch = "transformer"
classes = 76
context = 64
layers = 2
width = 64
heads = 4
dropout = 0.1

[[stage]]
name = "model"
kind = "train"
model = "transformer"
dataset = "gpl"
epochs = {epochs}
batch_size = {batch}
optimizer = {optimizer}
{more}
"""


class Trials:
    """Runs decks, each in a folder of its own, and keeps what came out."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.environment = dict(os.environ, OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_mpi_yield_when_idle="1",
                                PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe",
                                OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        self.failures = []

    def deck(self, model, *, epochs=None, batch=32, limit=None, shards=8, overlap="auto", optimizer=OPTIMIZER, more=""):
        values = {"model": model, "epochs": epochs or self.options.epochs, "batch": batch, "shards": shards,
                  "overlap": overlap, "optimizer": optimizer, "more": more,
                  "limit": limit or self.options.samples // 10,  # of each class
                  "images": self.options.data / "cifar10/data_batch_1.bin.gz",
                  "text": ROOT / "inputs/data/gpl/gpl-3.0.txt"}
        return (TEXT if model == "transformer" else IMAGES).format(**values)

    def start(self, name, deck, ranks, **variables):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "deck.toml").write_text(deck)
        return subprocess.Popen(["mpirun", "-n", str(ranks), self.options.build / "bin/impart", "run", "deck.toml",
                                 "--threads", "1", "--progress", "none"], cwd=folder, text=True,
                                env=self.environment | variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def run(self, name, deck, ranks, **variables):
        process = self.start(name, deck, ranks, **variables)
        output, _ = process.communicate()
        if process.returncode != 0:
            sys.exit(f"{name}: exit code {process.returncode}\n{output}")
        return output

    def stop(self, name, deck, ranks):
        """Stops the run after its first epoch."""
        process = self.start(name, deck, ranks)
        log = self.folder / name / "runs/t/metrics.jsonl"
        while not (log.exists() and log.read_text()):
            if process.poll() is not None:
                sys.exit(f"{name} ended before it was stopped\n{process.communicate()[0]}")
            time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
        output, _ = process.communicate()
        if process.returncode != 75:
            sys.exit(f"{name}: exit code {process.returncode} instead of 75\n{output}")

    def equal(self, one, other):
        models = [self.folder / name / "runs/t/model/model.h5" for name in (one, other)]
        result = subprocess.run([self.options.build / "bin/impart-ckpt", "diff", *models], stdout=subprocess.PIPE,
                                text=True)
        if result.returncode != 0:
            self.failures.append(f"{one} and {other}: {result.stdout.strip()}")
        return result.returncode == 0

    def losses(self, name):
        events = map(json.loads, (self.folder / name / "runs/t/metrics.jsonl").read_text().splitlines())
        return [event["value"] for event in events if event["name"] == "train.loss"]

    def loss_difference(self, one, other):
        """The largest, relative."""
        pairs = list(zip(self.losses(one), self.losses(other), strict=True))
        difference = max(abs(b / a - 1) for a, b in pairs)
        if difference > TOLERANCE:
            self.failures.append(f"losses of {one} and {other} differ by {difference:.2g}")
        return difference


def equal_bits(trials, model):
    results = {}
    trials.run(f"{model}-1", trials.deck(model), 1)

    def add(name, deck, ranks, reference):
        trials.run(f"{model}-{name}", deck, ranks)
        results[name] = trials.equal(f"{model}-{reference}", f"{model}-{name}")

    for ranks in (2, 4, 8):
        add(f"{ranks}", trials.deck(model), ranks, "1")
    for overlap in ("blocking", "polling", "thread"):
        add(overlap, trials.deck(model, overlap=overlap), 2, "1")
    six = trials.deck(model, shards=6, batch=36)
    trials.run(f"{model}-six-shards-1", six, 1)
    add("six-shards-3", six, 3, "six-shards-1")
    name = f"{model}-stopped"
    trials.stop(name, trials.deck(model), 4)
    if not re.search("continuing after step", trials.run(name, trials.deck(model), 2)):
        sys.exit(f"{name} has not been continued")
    results["stopped at 4, continued at 2"] = trials.equal(f"{model}-1", name)
    return results


def equal_losses(trials, model):
    """Each epoch is one batch of all samples, so that its loss is a step's."""
    steps = dict(epochs=STEPS, batch=32 if model == "transformer" else 40, limit=4, optimizer=SLOW[model])
    name = f"{model}-steps"
    trials.run(f"{name}-1", trials.deck(model, **steps), 1)
    trials.run(f"{name}-avx2", trials.deck(model, **steps), 1, ONEDNN_MAX_CPU_ISA="AVX2")
    results = {"one rank, AVX2 at most": trials.loss_difference(f"{name}-1", f"{name}-avx2")}
    for mesh, ranks in (("{ tensor = 2 }", 2), ("{ tensor = 4 }", 4), ("{ data = 2, tensor = 2 }", 4)):
        other = f"{name}-{mesh}"
        trials.run(other, trials.deck(model, more=f"mesh = {mesh}", **steps), ranks)
        results[mesh] = trials.loss_difference(f"{name}-1", other)
    return results


def any_mesh(trials):
    results = {}
    for ranks in (4, 1):
        name = f"meshes-{ranks}"
        trials.stop(name, trials.deck("cnn", epochs=STEPS, more="mesh = { data = 2, tensor = 2 }"), 4)
        output = trials.run(name, trials.deck("cnn", epochs=STEPS), ranks)
        results[f"data 2 x tensor 2, then {ranks} ranks"] = re.search("continuing after step [0-9]*", output).group()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", help="where the programs are")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared/data", help="with cifar10 in it")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=250)
    options = parser.parse_args()
    if not (options.data / "cifar10").is_dir():
        print(f"skipped: no folder cifar10 in {options.data} (give --data)")
        sys.exit(77)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="impart-bits-"))
    trials = Trials(options, folder)
    try:
        result = {"epochs": options.epochs, "samples": options.samples,
                  "equal_bits": {model: equal_bits(trials, model) for model in ("cnn", "resnet18")},
                  "loss_differences": {model: equal_losses(trials, model)
                                       for model in ("cnn", "resnet18", "transformer")},
                  "continued": any_mesh(trials)}
        print(json.dumps(result, indent=2))
        if trials.failures:
            sys.exit("\n".join(trials.failures))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
