#!/usr/bin/env python3
"""Runs a command that must fail: exit code 1 soon, and an output that has what is wanted and lacks what is not.

usage: expect_failure.py WANTED UNWANTED COMMAND ...      (regular expressions)
"""
import re
import subprocess
import sys

SECONDS = 20  # much longer than it takes, much shorter than waiting for ever

wanted, unwanted, *command = sys.argv[1:]
try:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
except subprocess.TimeoutExpired:
    sys.exit(f"still running after {SECONDS} s: {' '.join(command)}")
print(done.stdout)
if done.returncode != 1:
    sys.exit(f"exit code {done.returncode} instead of 1")
if not re.search(wanted, done.stdout):
    sys.exit(f"the output lacks '{wanted}'")
if re.search(unwanted, done.stdout):
    sys.exit(f"the output has '{unwanted}'")
