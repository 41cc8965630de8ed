#!/usr/bin/env python3
"""Trains the same model in impart and in PyTorch, in turn, on one core and one thread, and prints one JSON object.

Both train on synthetic data with SGD (momentum 0.9) and cross entropy, in processes of their own that are pinned to the
same core. A round is one run of each, so that a machine that slows down for a while slows down both; the number to look
at is the median of the rounds' ratios. Run it with Debian's Python, which sees python3-torch:

    /usr/bin/python3 tests/bench/versus_torch.py --rounds 5
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def torch_cnn(torch):
    """inputs/digits.toml's CNN: 93,322 parameters. Returns the network, one sample's shape, and the classes."""
    nn = torch.nn
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10))
    return network, (1, 28, 28), 10


# What `impart bench --model` calls it -> the same in PyTorch. A further model is one more function and row.
MODELS = {"cnn": torch_cnn}


def train_torch(model, batch, steps, warmup):
    """In a process of its own: PyTorch's samples a second and peak memory."""
    import resource
    import time

    import torch

    torch.set_num_threads(1)
    torch.manual_seed(7)
    network, shape, classes = MODELS[model](torch)
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    samples = torch.randn(batch, *shape)
    labels = torch.randint(0, classes, (batch,))

    def step():
        optimizer.zero_grad()
        loss_of(network(samples), labels).backward()
        optimizer.step()

    for _ in range(warmup):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - start
    return {
        "model": model,
        "batch": batch,
        "parameters": sum(p.numel() for p in network.parameters()),
        "samples_per_second": batch * steps / seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": torch.__version__,
    }


def run_pinned(command, core):
    """The JSON object that `command`, bound to one core and one thread, prints."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    done = subprocess.run(["taskset", "-c", str(core), *command], env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def compare(options):
    batch, steps = str(options.batch), str(options.steps)
    impart = [str(options.impart), "bench", "--model", options.model, "--batch", batch, "--steps", steps,
              "--threads", "1", "--json"]
    torch = [sys.executable, str(pathlib.Path(__file__).resolve()), "--torch-only", "--model", options.model,
             "--batch", batch, "--steps", steps]
    ours, theirs = [], []
    for number in range(options.rounds):
        # Who comes first changes each round.
        for command, results in ((impart, ours), (torch, theirs))[::1 if number % 2 == 0 else -1]:
            results.append(run_pinned(command, options.core))
        print(f"round {number + 1}: impart {ours[-1]['samples_per_second']:.0f}, "
              f"torch {theirs[-1]['samples_per_second']:.0f} samples/s", file=sys.stderr)
    for a, b in zip(ours, theirs):
        if (a["batch"], a["parameters"]) != (b["batch"], b["parameters"]):
            sys.exit(f"not the same work: impart {a}, torch {b}")

    def median_of(results, key):
        return statistics.median(result[key] for result in results)

    def summary(results):
        return {key: round(median_of(results, key), 1) for key in ("samples_per_second", "peak_rss_mb")}

    speed = [a["samples_per_second"] / b["samples_per_second"] for a, b in zip(ours, theirs)]
    memory = [a["peak_rss_mb"] / b["peak_rss_mb"] for a, b in zip(ours, theirs)]
    return {
        "model": options.model,
        "parameters": ours[0]["parameters"],
        "batch": options.batch,
        "steps": options.steps,
        "rounds": options.rounds,
        "impart": summary(ours),
        "torch": {**summary(theirs), "version": theirs[0]["version"]},
        "speed_ratio": round(statistics.median(speed), 3),
        "speed_ratios": [round(ratio, 3) for ratio in speed],
        "memory_ratio": round(statistics.median(memory), 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impart", type=pathlib.Path, default=ROOT / "build/release/bin/impart", help="the program")
    parser.add_argument("--model", choices=sorted(MODELS), default="cnn")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40, help="timed steps of a run, after the warm-up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core both are bound to")
    parser.add_argument("--torch-only", action="store_true", help="one run of PyTorch alone, in this process")
    options = parser.parse_args()
    if options.torch_only:
        result = train_torch(options.model, options.batch, options.steps, warmup=5)
    else:
        result = compare(options)
    json.dump(result, sys.stdout, indent=None if options.torch_only else 2)
    print()


if __name__ == "__main__":
    main()
