#!/usr/bin/env python3
"""Shows what CTest is told by the two mains of the tests: a failure beside a skipped test is a failure.

usage: test_outcomes.py COMMAND ...    that runs outcomes.cpp
"""
import os
import subprocess
import sys
import unittest

COMMAND = sys.argv[1:]
PASSED, FAILED, SKIPPED = 0, 1, 77


class Outcomes(unittest.TestCase):
    def expect(self, code, *tests):
        chosen = ":".join(f"Outcome.{test}" for test in tests)
        done = subprocess.run(COMMAND, env=dict(os.environ, GTEST_FILTER=chosen), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)

    def test_a_failure_fails_whatever_else_there_is(self):
        self.expect(FAILED, "Fails")
        self.expect(FAILED, "Fails", "Skips")
        self.expect(FAILED, "Fails", "Skips", "Passes")

    def test_skipped_when_all_tests_are(self):
        self.expect(SKIPPED, "Skips")
        self.expect(PASSED, "Skips", "Passes")
        self.expect(PASSED, "Passes")

    def test_no_test_at_all_fails(self):
        self.expect(FAILED, "IsNotThere")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
