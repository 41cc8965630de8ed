#!/usr/bin/env python3
"""Checks the list of all tests, as CTest has it, for what would let one pass that fails.

usage: test_list.py CTEST BUILD_DIR README

A pattern in the output that skips a test hides a failure beside it, and one that passes it hides the exit code;
a label that tests/README.md names and no test has selects nothing; a test without a time limit may hang.
"""
import json
import re
import subprocess
import sys

HIDES = ("SKIP_REGULAR_EXPRESSION", "PASS_REGULAR_EXPRESSION", "WILL_FAIL")


def properties_of(test):
    return {each["name"]: each["value"] for each in test.get("properties", ())}


def documented_labels(readme):
    """Those of the paragraph of tests/README.md that begins with "Labels:"."""
    paragraph = re.search(r"^Labels:.*?(?=\n\n)", readme, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`(\w+)`", paragraph.group())) if paragraph else set()


def problems(tests, labels):
    found, used = [], set()
    for test in tests:
        properties = properties_of(test)
        own = set(properties.get("LABELS", ()))
        used |= own
        found += [f"{test['name']}: {name} hides a failure" for name in HIDES if name in properties]
        if not own:
            found.append(f"{test['name']}: has no label")
        if "TIMEOUT" not in properties:
            found.append(f"{test['name']}: has no TIMEOUT")
    found += [f"label '{label}': no test has it" for label in sorted(labels - used)]
    found += [f"label '{label}': tests/README.md does not name it" for label in sorted(used - labels)]
    return found


def main():
    ctest, build, readme = sys.argv[1:]
    listed = subprocess.run([ctest, "--test-dir", build, "--show-only=json-v1"], check=True, capture_output=True,
                            text=True)
    tests = json.loads(listed.stdout)["tests"]
    with open(readme, encoding="utf-8") as text:
        found = problems(tests, documented_labels(text.read()))
    for line in found:
        print(line)
    print(f"test list: {len(tests)} tests, {len(found)} problems")
    return 1 if found or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
