#!/usr/bin/env python3
"""Checks all C++ sources against .clang-format.

usage: source_format.py ROOT [CLANG_FORMAT]

Fails when clang-format is not installed: tools/setup --test installs it.
"""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys

FOLDERS = ("include", "src", "tools", "tests")


def problems(root, clang_format):
    root = pathlib.Path(root)
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*")
                   if path.suffix in {".hpp", ".cpp", ".inl"})

    def problem_of(path):
        text = path.read_bytes()
        formatted = subprocess.run([clang_format, "--style=file", str(path)], check=True, capture_output=True).stdout
        if text == formatted:
            return None
        lines = zip(text.splitlines(), formatted.splitlines())
        number = next((n for n, (a, b) in enumerate(lines, 1) if a != b), len(text.splitlines()))
        return f"{path.relative_to(root)}:{number}: not as clang-format writes it"

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = [problem for problem in pool.map(problem_of, files) if problem]
    return found, len(files)


def main():
    clang_format = shutil.which(sys.argv[2] if len(sys.argv) > 2 else "clang-format")
    if clang_format is None:
        sys.exit("source format: clang-format is not installed; tools/setup --test installs it")
    found, count = problems(sys.argv[1], clang_format)
    for line in found:
        print(line)
    print(f"source format: {count} files, {len(found)} problems")
    return 1 if found or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
