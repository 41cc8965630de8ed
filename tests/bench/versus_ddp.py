#!/usr/bin/env python3
"""Trains a model on two ranks of impart and in two processes of PyTorch's DistributedDataParallel, in turn.

They speak over gloo. Prints one JSON object. Each rank and each process has one core and one thread; data,
optimizer and counting are those of versus_torch.py. The number to look at is the median of the rounds'
ratios.

    tests/bench/versus_ddp.py --model resnet18
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

import debian_python

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Samples of a rank, and timed steps of a run.
MODELS = {"resnet18": (32, 4), "cnn": (64, 40)}
WARM_UP = 3


def train_ddp(model, batch, steps):
    """One of the processes: samples a second of all of them, from the first."""
    import torch.distributed
    import torch_step

    torch.distributed.init_process_group("gloo")
    network, step = torch_step.prepare(model, batch, torch.nn.parallel.DistributedDataParallel)
    for _ in range(WARM_UP):
        step()
    torch.distributed.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.distributed.barrier()
    seconds = time.perf_counter() - start
    ranks = torch.distributed.get_world_size()
    if torch.distributed.get_rank() != 0:
        return None
    return {"model": model, "batch": batch * ranks, "parameters": sum(p.numel() for p in network.parameters()),
            "samples_per_second": batch * ranks * steps / seconds}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def finished(process, command):
    out, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with exit code {process.returncode}:\n{out}{errors}")
    return out


def run_torch(options, environment, cores):
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), "--torch-only", "--model", options.model,
               "--batch", str(options.batch), "--steps", str(options.steps)]
    meeting = {"WORLD_SIZE": str(len(cores)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    # The launcher (torch.distributed.run) of Debian's package lacks a module; it would do no more than this.
    processes = [
        subprocess.Popen(["taskset", "-c", str(core), *command], env=environment | meeting | {"RANK": str(rank)},
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank, core in enumerate(cores)]
    return json.loads([finished(process, command) for process in processes][0])


def run_impart(options, environment, cores):
    command = ["mpirun", "-n", str(len(cores)), str(options.impart), "bench", "--model", options.model, "--batch",
               str(options.batch * len(cores)), "--threads", "1", "--steps", str(options.steps), "--json"]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    return json.loads(finished(process, command))


def compare(options):
    cores = sorted(os.sched_getaffinity(0))[-2:]
    if len(cores) < 2:
        sys.exit("two cores are needed")
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    if os.geteuid() == 0:
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    ours, theirs = [], []
    for number in range(options.rounds):
        # Who comes first changes each round.
        for run, results in ((run_impart, ours), (run_torch, theirs))[::1 if number % 2 == 0 else -1]:
            results.append(run(options, environment, cores))
        a, b = ours[-1], theirs[-1]
        if (a["batch"], a["parameters"]) != (b["batch"], b["parameters"]):
            sys.exit(f"not the same work: impart {a}, torch {b}")
    ratios = [a["samples_per_second"] / b["samples_per_second"] for a, b in zip(ours, theirs)]

    def speed(results):
        return round(statistics.median(result["samples_per_second"] for result in results), 1)

    return {"model": options.model, "batch_per_rank": options.batch, "ranks": len(cores), "rounds": options.rounds,
            "impart_samples_per_second": speed(ours), "ddp_samples_per_second": speed(theirs),
            "speed_ratio": round(statistics.median(ratios), 3), "speed_ratios": [round(r, 3) for r in ratios]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impart", type=pathlib.Path, default=ROOT / "build/release/bin/impart", help="the program")
    parser.add_argument("--model", choices=sorted(MODELS), default="resnet18")
    parser.add_argument("--batch", type=int, help="samples of a rank; default: 32 for resnet18, 64 for cnn")
    parser.add_argument("--steps", type=int, help="timed steps of a run; default: by model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-only", action="store_true", help="one process of PyTorch, told who it is by RANK")
    options = parser.parse_args()
    debian_python.need("torch")
    batch, steps = MODELS[options.model]
    options.batch = options.batch or batch
    options.steps = options.steps or steps
    result = train_ddp(options.model, options.batch, options.steps) if options.torch_only else compare(options)
    if result is not None:
        json.dump(result, sys.stdout, indent=None if options.torch_only else 2)
        print()


if __name__ == "__main__":
    main()
