#!/usr/bin/env python3
"""Runs a command that must fail: its exit code soon, an output that has the wanted and lacks the rest."""
import argparse
import re
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seconds", type=float, default=20, help="much longer than it takes, much shorter than for ever")
parser.add_argument("--code", type=int, default=1, help="the exit code")
parser.add_argument("--once", help="a text that one line of the output holds, and no more than one")
parser.add_argument("wanted", help="a regular expression")
parser.add_argument("unwanted", help="a regular expression")
parser.add_argument("command", nargs=argparse.REMAINDER)
args = parser.parse_args()

begin = time.monotonic()
try:
    done = subprocess.run(args.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=args.seconds)
except subprocess.TimeoutExpired:
    sys.exit(f"still running after {args.seconds} s: {' '.join(args.command)}")
print(done.stdout, f"{time.monotonic() - begin:.1f} s")
if done.returncode != args.code:
    sys.exit(f"exit code {done.returncode} instead of {args.code}")
if not re.search(args.wanted, done.stdout):
    sys.exit(f"the output lacks '{args.wanted}'")
if re.search(args.unwanted, done.stdout):
    sys.exit(f"the output has '{args.unwanted}'")
if args.once:
    lines = [line for line in done.stdout.splitlines() if args.once in line]
    if len(lines) != 1:
        sys.exit(f"{len(lines)} lines hold '{args.once}'")
