"""Finds the Python that has Debian's packages: on PATH, another may come first."""
import importlib.util
import os
import sys

DEBIAN_PYTHON = "/usr/bin/python3"


def need(module):
    """Starts this program again under Debian's Python where this one lacks `module`; ends it where that does too."""
    if importlib.util.find_spec(module) is not None:
        return
    here = sys.prefix == "/usr"  # the interpreter may be the same file in a virtual environment, and lack Debian's
    if not here and os.access(DEBIAN_PYTHON, os.X_OK):
        print(f"{sys.executable} has no {module}: going on with {DEBIAN_PYTHON}", file=sys.stderr)
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])
    sys.exit(f"{DEBIAN_PYTHON} has no {module}: tools/setup --test installs Debian's python3-{module}")
