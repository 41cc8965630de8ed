#!/usr/bin/env python3
"""Trains a model in impart and in PyTorch, in turn, on one core and one thread; prints one JSON object.

Both train on synthetic data with SGD (momentum 0.9) and cross entropy, in processes of their own that are
pinned to the same core. A round is one run of each, so that a machine that slows down for a while slows down
both; the number to look at is the median of the rounds' ratios.

    tests/bench/versus_torch.py --rounds 5
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import debian_python

ROOT = pathlib.Path(__file__).resolve().parents[2]


# What is measured, with the batch and the number of timed steps of one run. Names are those of impart's zoo.
MODELS = {"cnn": (128, 40), "mlp": (128, 40), "resnet18": (32, 4), "vgg16": (32, 4), "resnet50": (32, 2),
          "mobilenet_v2": (32, 6), "lenet5": (128, 40), "vgg16_bn": (32, 4), "logistic": (128, 40)}
ALL = ("cnn", "mlp", "resnet18", "vgg16", "resnet50", "mobilenet_v2")


def train_torch(model, batch, steps, warmup):
    """In a process of its own: PyTorch's samples a second and peak memory."""
    import resource
    import time

    import torch
    import torch_step

    network, step = torch_step.prepare(model, batch)
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


def run_pinned(command, cores):
    """The JSON object that `command`, bound to these cores ("0", "0,1"), prints; libraries have one thread."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    done = subprocess.run(["taskset", "-c", str(cores), *command], env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def impart_command(options, threads=1, shards=8):
    return [str(options.impart), "bench", "--model", options.model, "--batch", str(options.batch), "--steps",
            str(options.steps), "--threads", str(threads), "--shards", str(shards), "--json"]


def compare_with_itself(options, what, command, cores):
    """The medians of paired runs of impart: `what` against one thread and the default shards on one core."""
    ratios = []
    for number in range(options.rounds):
        runs = [(impart_command(options), options.core), (command, cores)]
        speeds = [run_pinned(*run)["samples_per_second"] for run in runs[::1 if number % 2 == 0 else -1]]
        ours, other = speeds[::1 if number % 2 == 0 else -1]
        ratios.append(other / ours)
    return {"model": options.model, "batch": options.batch, "what": what,
            "speed_ratio": round(statistics.median(ratios), 3), "speed_ratios": [round(r, 3) for r in ratios]}


def torch_command(options):
    return [sys.executable, str(pathlib.Path(__file__).resolve()), "--torch-only", "--model", options.model,
            "--batch", str(options.batch), "--steps", str(options.steps)]


def compare(options, other, command):
    """Paired runs of impart and of `command`, which is `other` doing the same."""
    ours, theirs = [], []
    for number in range(options.rounds):
        # Who comes first changes each round.
        for run, results in ((impart_command(options), ours), (command, theirs))[::1 if number % 2 == 0 else -1]:
            results.append(run_pinned(run, options.core))
        print(f"round {number + 1}: impart {ours[-1]['samples_per_second']:.0f}, "
              f"{other} {theirs[-1]['samples_per_second']:.0f} samples/s", file=sys.stderr)
    for a, b in zip(ours, theirs):
        if (a["batch"], a["parameters"]) != (b["batch"], b["parameters"]):
            sys.exit(f"not the same work: impart {a}, {other} {b}")

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
        other: {**summary(theirs), "version": theirs[0]["version"]},
        "speed_ratio": round(statistics.median(speed), 3),
        "speed_ratios": [round(ratio, 3) for ratio in speed],
        "memory_ratio": round(statistics.median(memory), 3),
    }


def print_table(rows):
    head = ("model", "batch", "impart/s", "torch/s", "speed", "impart MB", "torch MB", "memory")
    print("{:<14}{:>6}{:>11}{:>11}{:>8}{:>11}{:>10}{:>8}".format(*head))
    for row in rows:
        ours, theirs = row["impart"], row["torch"]
        print(f"{row['model']:<14}{row['batch']:>6}{ours['samples_per_second']:>11}{theirs['samples_per_second']:>11}"
              f"{row['speed_ratio']:>7}x{ours['peak_rss_mb']:>11}{theirs['peak_rss_mb']:>10}{row['memory_ratio']:>7}x")


def set_defaults(options, model):
    """The table's batch and steps, where the command line says nothing."""
    batch, steps = MODELS[model]
    made = argparse.Namespace(**vars(options))
    made.model = model
    made.batch = options.batch or batch
    made.steps = options.steps or steps
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impart", type=pathlib.Path, default=ROOT / "build/release/bin/impart", help="the program")
    parser.add_argument("--model", choices=sorted(MODELS), default="cnn")
    parser.add_argument("--all", action="store_true", help="a table of the six models that are compared")
    parser.add_argument("--threads", type=int, help="impart alone: so many threads on so many cores against one")
    parser.add_argument("--shards", type=int, help="impart alone: so many shards against the default of 8")
    parser.add_argument("--batch", type=int, help="default: 128 or 32, by model")
    parser.add_argument("--steps", type=int, help="timed steps of a run, after the warm-up; default: by model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core both are bound to")
    parser.add_argument("--torch-only", action="store_true", help="one run of PyTorch alone, in this process")
    options = parser.parse_args()
    if not (options.threads or options.shards):
        debian_python.need("torch")
    chosen = set_defaults(options, options.model)
    if options.all:
        every = [set_defaults(options, model) for model in ALL]
        print_table([compare(each, "torch", torch_command(each)) for each in every])
        return
    if options.torch_only:
        result = train_torch(chosen.model, chosen.batch, chosen.steps, warmup=2)
    elif options.threads:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[-options.threads:]))
        result = compare_with_itself(chosen, f"{options.threads} threads",
                                     impart_command(chosen, threads=options.threads), cores)
    elif options.shards:
        result = compare_with_itself(chosen, f"{options.shards} shards",
                                     impart_command(chosen, shards=options.shards), options.core)
    else:
        result = compare(chosen, "torch", torch_command(chosen))
    json.dump(result, sys.stdout, indent=None if options.torch_only else 2)
    print()


if __name__ == "__main__":
    main()
