#!/usr/bin/env python3
"""What two ranks gain and lose on two cores, in one JSON object: medians of rounds.

    tests/bench/two_ranks.py --model cnn

A round is a run of each of these, with the same samples and shards on every core: one rank alone; two ranks;
two ranks with reproducible = false; and two runs of one rank side by side, which share nothing but the
machine.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {"cnn": (128, 60), "resnet18": (32, 4)}  # samples of a rank, timed steps
SHARDS = 4  # of a rank


def start(options, cores, *more):
    ranks = len(cores)
    command = ["mpirun", "-n", str(ranks), "--cpu-set", ",".join(map(str, cores)), "--bind-to", "core",
               str(options.impart), "bench", "--model", options.model, "--batch", str(options.batch * ranks),
               "--shards", str(SHARDS * ranks), "--threads", "1", "--steps", str(options.steps), "--json", *more]
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    if os.geteuid() == 0:
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def result(process):
    out, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(process.args)}\nfailed with exit code {process.returncode}:\n{out}{errors}")
    return json.loads(out)


def one_round(options, cores, backwards):
    def pair():
        both = [start(options, [core]) for core in cores]
        return sum(result(process)["samples_per_second"] for process in both)

    runs = {"one": lambda: result(start(options, cores[:1]))["samples_per_second"],
            "two": lambda: result(start(options, cores, "--overlap", options.overlap)),
            "any_order": lambda: result(start(options, cores, "--overlap", options.overlap, "--reproducible",
                                              "0"))["samples_per_second"],
            "pair": pair}
    return {name: runs[name]() for name in (reversed(runs) if backwards else runs)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impart", type=pathlib.Path, default=ROOT / "build/release/bin/impart", help="the program")
    parser.add_argument("--model", choices=sorted(MODELS), default="cnn")
    parser.add_argument("--batch", type=int, help="samples of a rank; default: 128 for cnn, 32 for resnet18")
    parser.add_argument("--steps", type=int, help="timed steps of a run; default: by model")
    parser.add_argument("--overlap", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    batch, steps = MODELS[options.model]
    options.batch = options.batch or batch
    options.steps = options.steps or steps
    cores = sorted(os.sched_getaffinity(0))[-2:]
    if len(cores) < 2:
        sys.exit("two cores are needed")
    rounds = [one_round(options, cores, number % 2 == 1) for number in range(options.rounds)]

    def median(value):
        return round(statistics.median(map(value, rounds)), 3)

    json.dump({
        "model": options.model,
        "batch_per_rank": options.batch,
        "overlap": options.overlap,
        "rounds": options.rounds,
        "two_ranks_samples_per_second": median(lambda r: r["two"]["samples_per_second"]),
        "against_one_rank": median(lambda r: r["two"]["samples_per_second"] / r["one"]),
        "against_two_runs_side_by_side": median(lambda r: r["two"]["samples_per_second"] / r["pair"]),
        "exposed_communication": median(lambda r: r["two"]["communication_ms"] / r["two"]["step_ms"]),
        "price_of_reproducible": median(lambda r: r["any_order"] / r["two"]["samples_per_second"] - 1),
    }, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
