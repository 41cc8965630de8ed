#!/usr/bin/env python3
"""Checks all C++ sources against .clang-format.

usage: source_format.py ROOT [CLANG_FORMAT]

Exits with 77, which CTest counts as skipped, when clang-format is not installed.
"""
import pathlib
import shutil
import subprocess
import sys

FOLDERS = ("include", "src", "tools", "tests")
SKIPPED = 77


def problems(root, clang_format):
    root = pathlib.Path(root)
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*")
                   if path.suffix in {".hpp", ".cpp", ".inl"})
    found = []
    for path in files:
        text = path.read_bytes()
        formatted = subprocess.run([clang_format, "--style=file", str(path)], check=True, capture_output=True).stdout
        if text != formatted:
            lines = zip(text.splitlines(), formatted.splitlines())
            number = next((n for n, (a, b) in enumerate(lines, 1) if a != b), len(text.splitlines()))
            found.append(f"{path.relative_to(root)}:{number}: not as clang-format writes it")
    return found, len(files)


def main():
    clang_format = shutil.which(sys.argv[2] if len(sys.argv) > 2 else "clang-format")
    if clang_format is None:
        print("source format: skipped, clang-format is not installed")
        return SKIPPED
    found, count = problems(sys.argv[1], clang_format)
    for line in found:
        print(line)
    print(f"source format: {count} files, {len(found)} problems")
    return 1 if found or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
