#!/usr/bin/env python3
"""Trains dense 4096-4096-4096 and VGG-16's classifier on one rank, then on two that share the tensors.

Both in turns, each rank on a core of its own; the ratio is the median of the rounds'. Prints a JSON list, one
object a model.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DECK = """
[model.dense_4096]
input = [4096]
classes = 4096
layers = [{ kind = "dense", units = 4096 }, { kind = "relu" }, { kind = "dense", units = 4096 }]

[model.vgg16_classifier]
input = [25088]
classes = 1000
layers = [{ kind = "dense", units = 4096 }, { kind = "relu" }, { kind = "dropout", rate = 0.5 },
          { kind = "dense", units = 4096 }, { kind = "relu" }, { kind = "dropout", rate = 0.5 },
          { kind = "dense", units = 1000 }]

# A deck has a stage; nothing runs it.
[dataset.none]
format = "csv"
file = "none.csv"
classes = 1000

[[stage]]
name = "none"
kind = "train"
model = "vgg16_classifier"
dataset = "none"
"""


def measure(options, deck, model, ranks):
    """The object that `impart bench` prints."""
    command = ["mpirun", "-n", str(ranks), "--bind-to", "core", str(options.impart), "bench", "--json", "--model",
               f"{deck}:{model}", "--tensor", str(ranks), "--batch", str(options.batch), "--steps",
               str(options.steps), "--threads", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stderr or result.stdout)
    return json.loads(result.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impart", type=pathlib.Path, default=ROOT / "build/release/bin/impart")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["dense_4096", "vgg16_classifier"])
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two ranks need two cores")
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        deck = pathlib.Path(directory) / "models.toml"
        deck.write_text(DECK)
        for model in options.models:
            rounds = [(measure(options, deck, model, 1), measure(options, deck, model, 2))
                      for _ in range(options.rounds)]
            ratios = [two["samples_per_second"] / one["samples_per_second"] for one, two in rounds]
            one, two = rounds[ratios.index(statistics.median_low(ratios))]
            parts = ["step_ms", "forward_ms", "backward_ms", "communication_ms", "update_ms", "input_ms"]
            rows.append({"model": model, "batch": options.batch, "speedup": statistics.median(ratios),
                         "speedups": ratios, "one_rank": {part: one[part] for part in parts},
                         "two_ranks": {part: two[part] for part in parts}})
    json.dump(rows, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
