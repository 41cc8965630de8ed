#!/usr/bin/env python3
"""What the drift check and the watchdog cost, which are always on, in one JSON object: medians of rounds.

    tests/bench/always_on.py --rounds 5

A round trains the CNN on `inputs/data/mnist` on two ranks with the defaults and with both off, in turn. With
`--untimed PROGRAM`, an impart that was built without its timers, that is what runs with both off.
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
[run]
name = "t"

[dataset.mnist]
format = "idx"
images = "{data}/t10k-images-idx3-ubyte.gz"
labels = "{data}/t10k-labels-idx1-ubyte.gz"

[[stage]]
name = "cnn"
kind = "train"
model = "cnn"
dataset = "mnist"
epochs = {epochs}
batch_size = 256

[model.cnn]
classes = 10
arch = "cnn"
"""
OFF = ["--set", "run.drift_check=0", "--set", "run.stall_warning=0", "--set", "run.stall_abort=0"]


def seconds(program, folder, settings):
    """Of training, on the slower rank."""
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    done = subprocess.run(["mpirun", "-n", "2", "--bind-to", "core", program, "run", "deck.toml", "--fresh", "--threads",
                           "1", "--progress", "none", *settings], cwd=folder, env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        sys.exit(f"{program} failed with exit code {done.returncode}:\n{done.stdout}")
    return json.loads((folder / "runs/t/run.json").read_text())["stages"][0]["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impart", type=pathlib.Path, default=ROOT / "build/release/bin/impart", help="the program")
    parser.add_argument("--untimed", type=pathlib.Path, help="the program without its timers; default: with them")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="impart-always-on-") as name:
        folder = pathlib.Path(name)
        (folder / "deck.toml").write_text(DECK.format(data=ROOT / "inputs/data/mnist", epochs=options.epochs))
        runs = [lambda: seconds(options.impart.resolve(), folder, []),
                lambda: seconds((options.untimed or options.impart).resolve(), folder, OFF)]
        seconds(options.impart.resolve(), folder, [])  # the files are in the cache from now on
        costs = []
        for number in range(options.rounds):
            if number % 2 == 0:
                on, off = (run() for run in runs)
            else:
                off, on = (run() for run in reversed(runs))
            costs.append(on / off - 1)
    json.dump({"epochs": options.epochs, "rounds": options.rounds, "timers_off": options.untimed is not None,
               "cost": round(statistics.median(costs), 4), "costs": [round(cost, 4) for cost in costs]},
              sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
