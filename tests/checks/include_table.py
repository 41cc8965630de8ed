#!/usr/bin/env python3
"""Checks the #include lines of include/impart/ and src/ against the table of modules in src/README.md.

usage: include_table.py ROOT

Fails on an edge that the table does not have, on a private header (src/<module>/) that another module
includes, on a module without a row, and on a third-party header in a public header that is too heavy to be
there.
"""
import pathlib
import re
import sys

ROW = re.compile(r"^\| (\w+) \|.*\| ([\w, -]+) \|$")

# They cost seconds in each file that includes them, and none of their types belongs to a public interface.
HEAVY = re.compile(r"^(toml\+\+|boost|Eigen|nlohmann|oneapi|fmt|spdlog)/|^(hdf5|H5\w+|dnnl\w*|sodium|cblas|zlib)\.h(pp)?$")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
SUFFIXES = {".hpp", ".cpp", ".inl"}


def read_table(root):
    """Module -> modules that it may include, besides itself. `main` are the files that lie in src/ itself."""
    text = (root / "src/README.md").read_text(encoding="utf-8")
    section = text.split("| may include |", 1)[1].split("\n\n", 1)[0]
    rows = filter(None, map(ROW.match, section.splitlines()))
    return {row.group(1): set(re.findall(r"\w+", row.group(2))) for row in rows}


def module_of(path, root):
    """(module, is it public) of a file."""
    parts = path.relative_to(root).parts
    if parts[0] == "include":
        return parts[2], True
    return (parts[1] if len(parts) > 2 else "main"), False


def problem_of(target, module, public, folder, root, table):
    """What is wrong with `#include target` in a file of `module` that lies in `folder`, or None."""
    if HEAVY.search(target):
        return f"a public header must not include <{target}>" if public else None
    parts = pathlib.PurePosixPath(target).parts
    if ".." in parts:
        return f'"{target}" climbs out of its folder'
    if parts[0] == "impart":
        other = parts[1]
        if other not in table:
            return f"'{other}' has no row in the table"
        if other != module and other not in table[module]:
            return f"'{module}' may not include '{other}' ({target})"
        return None
    owner = None
    if (root / "src" / target).exists():
        owner = parts[0] if len(parts) > 1 else "main"
    if (folder / target).exists():
        owner = module
    if owner is None:
        return None
    if public:
        return f'a public header must not include the private "{target}"'
    return None if owner == module else f"'{module}' includes a private header of '{owner}' ({target})"


def problems(root):
    """All problems of the tree, as lines, and the number of files that were read."""
    root = pathlib.Path(root)
    table = read_table(root)
    files = sorted(path for top in ("include/impart", "src") for path in (root / top).rglob("*")
                   if path.suffix in SUFFIXES)
    found = []
    for path in files:
        module, public = module_of(path, root)
        if module not in table:
            found.append(f"{path.relative_to(root)}: '{module}' has no row in the table")
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            problem = match and problem_of(match.group(2), module, public, path.parent, root, table)
            if problem:
                found.append(f"{path.relative_to(root)}:{number}: {problem}")
    return found, len(files)


def main():
    found, count = problems(sys.argv[1])
    for line in found:
        print(line)
    if count == 0:
        found.append("no files")
        print(f"{sys.argv[1]}: no sources found")
    print(f"include table: {count} files, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
