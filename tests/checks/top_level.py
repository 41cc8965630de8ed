#!/usr/bin/env python3
"""Checks that the top level of the tree holds nothing but what belongs there.

usage: top_level.py ROOT
"""
import pathlib
import sys

REQUIRED = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "src", "include", "jobs", "inputs",
            "tests", "tools"}
OUTPUTS = {"build", "runs"}  # made by building and running, and ignored by git


def problems(root):
    names = {path.name for path in pathlib.Path(root).iterdir() if not path.name.startswith(".")}
    return ([f"{name}: does not belong on the top level" for name in sorted(names - REQUIRED - OUTPUTS)] +
            [f"{name}: is missing" for name in sorted(REQUIRED - names)])


def main():
    found = problems(sys.argv[1])
    for line in found:
        print(line)
    print(f"top level: {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
