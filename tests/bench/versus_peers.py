#!/usr/bin/env python3
"""Trains the zoo's CNN in impart and dlib, then in impart and tiny-dnn, as versus_torch.py does with PyTorch.

The peers are built with the tests when their packages are installed (tools/setup --test). They are compiled
for this very processor; dlib's products are OpenBLAS's. Prints a JSON list, one object a peer.
"""
import argparse
import json
import os
import pathlib
import sys

from versus_torch import ROOT, compare

PEERS = {"dlib": 20, "tiny_dnn": 4}  # with the timed steps of one run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "build/release/bin", help="where they are built")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core all are bound to")
    options = parser.parse_args()
    options.impart = options.programs / "impart"
    options.model = "cnn"
    rows = []
    for peer, steps in PEERS.items():
        program = options.programs / f"peer_{peer}"
        if not program.exists():
            print(f"{peer}: {program} is not there; tools/setup --test installs what it needs", file=sys.stderr)
            continue
        options.steps = steps
        rows.append(compare(options, peer, [str(program), str(options.batch), str(steps)]))
    if not rows:
        sys.exit("no peer is built")
    json.dump(rows, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
