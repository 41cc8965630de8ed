#!/usr/bin/env python3
"""Runs clang-tidy, with the checks of .clang-tidy, over the sources of src/ and tools/ that a build compiles.

usage: static_analysis.py ROOT BUILD_DIR [CLANG_TIDY]

Fails on any finding, and when clang-tidy is not installed (tools/setup --test installs it). A file that passed is
not looked at again, in this build, until it or something of the project that it includes has changed.
"""
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

FOLDERS = ("src", "tools")
INCLUDE = re.compile(rb'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)


@functools.cache
def contents(path):
    return path.read_bytes()


@functools.cache
def included(path, root):
    """The project's files that `path` includes itself."""
    names = [match.decode() for match in INCLUDE.findall(contents(path))]
    places = (root / "include", root / "src", root, path.parent)
    return [place / name for name in names for place in places if (place / name).is_file()]


def digest_of(path, command, fixed, root):
    """Of all that a verdict on the file depends on, but for the system's headers."""
    reached, waiting = set(), [path]
    while waiting:
        each = waiting.pop()
        if each not in reached:
            reached.add(each)
            waiting += included(each, root)
    digest = hashlib.blake2b(f"{fixed}\0{command}".encode(), digest_size=16)
    for each in sorted(reached):
        digest.update(f"\0{each.relative_to(root)}\0".encode() + contents(each))
    return digest.hexdigest()


def commands_of(root, build):
    """The compiler's command of each source file of ours, from the build's compile_commands.json."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        path = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if any((root / folder) in path.parents for folder in FOLDERS):
            commands[path] = entry["command"]
    return commands


def findings(root, build, clang_tidy, passed):
    """What clang-tidy says of each file that it does not like, and how many it read, of how many."""
    version = subprocess.run([clang_tidy, "--version"], check=True, capture_output=True, text=True).stdout
    fixed = version + (root / ".clang-tidy").read_text(encoding="utf-8")
    commands = commands_of(root, build)
    passed.mkdir(parents=True, exist_ok=True)
    marks = {path: passed / digest_of(path, command, fixed, root) for path, command in commands.items()}

    def look_at(path):
        done = subprocess.run([clang_tidy, "-p", build, "--quiet", path], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True)
        if done.returncode == 0:
            marks[path].touch()
            return None
        return done.stdout or done.stderr

    new = sorted(path for path, mark in marks.items() if not mark.exists())
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = [text for text in pool.map(look_at, new) if text is not None]
    for old in set(passed.iterdir()) - set(marks.values()):
        old.unlink()
    return found, len(new), len(commands)


def main():
    root, build = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
    clang_tidy = shutil.which(sys.argv[3] if len(sys.argv) > 3 else "clang-tidy")
    if clang_tidy is None:
        sys.exit("static analysis: clang-tidy is not installed; tools/setup --test installs it")
    start = time.monotonic()
    found, read, count = findings(root, build, clang_tidy, build / "clang-tidy")
    for text in found:
        print(text)
    seconds = time.monotonic() - start
    print(f"static analysis: {read} of {count} files read in {seconds:.0f} s, {len(found)} with findings")
    return 1 if found or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
