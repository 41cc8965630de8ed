#!/usr/bin/env python3
"""Shows that each check can fail: runs it on made-up trees, with and without a mistake."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import include_table
import source_format
import static_analysis
import test_list
import top_level


class Tree(unittest.TestCase):
    """A tree of files in a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def write(self, path, text=""):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


class IncludeTable(Tree):
    def setUp(self):
        super().setUp()
        self.write("src/README.md", """# Modules

| module | holds | may include |
|---|---|---|
| core | errors, and | more | - |
| io | files | core |
| stages | decks | core, io |
| train | training | core, io |
| main | `main.cpp` | core, stages |

| another | table |
""")
        self.write("include/impart/core/error.hpp", "#include <string>\n")
        self.write("include/impart/io/checkpoint.hpp", '#include "impart/core/error.hpp"\n')
        self.write("src/io/handle.hpp", "#include <hdf5.h>\n")
        self.write("src/io/checkpoint.cpp", '#include "impart/io/checkpoint.hpp"\n#include "io/handle.hpp"\n')

    def expect(self, *parts):
        found, _ = include_table.problems(self.root)
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    def test_allowed_edges_pass(self):
        found, count = include_table.problems(self.root)
        self.assertEqual((found, count), ([], 4))

    def test_forbidden_edge(self):
        self.write("src/core/error.cpp", '\n#include "impart/io/checkpoint.hpp"\n')
        self.expect("src/core/error.cpp:2", "'core' may not include 'io'")

    def test_forbidden_edge_with_odd_spaces_and_angle_brackets(self):
        self.write("src/core/error.cpp", "  #  include <impart/io/checkpoint.hpp>\n")
        self.expect("src/core/error.cpp:1", "'core' may not include 'io'")

    def test_private_header_of_another_module(self):
        self.write("src/train/trainer.cpp", '#include "io/handle.hpp"\n')
        self.expect("'train' includes a private header of 'io'")

    def test_private_header_in_a_public_one(self):
        self.write("include/impart/io/source.hpp", '#include "io/handle.hpp"\n')
        self.expect("a public header must not include the private")

    def test_heavy_header_in_a_public_one(self):
        self.write("include/impart/io/source.hpp", "#include <hdf5.h>\n")
        self.expect("a public header must not include <hdf5.h>")

    def test_way_round_the_table(self):
        self.write("src/core/error.cpp", '#include "../io/handle.hpp"\n')
        self.expect("climbs out of its folder")

    def test_unknown_module(self):
        self.write("src/misc/misc.cpp")
        self.expect("'misc' has no row")

    def test_main(self):
        self.write("include/impart/stages/deck.hpp")
        self.write("src/main.cpp", '#include "impart/stages/deck.hpp"\n#include "impart/io/checkpoint.hpp"\n')
        self.expect("src/main.cpp:2", "'main' may not include 'io'")


class TopLevel(Tree):
    def setUp(self):
        super().setUp()
        for name in top_level.REQUIRED:
            self.write(name)

    def test_allowed_names_pass(self):
        self.write(".gitignore")
        self.write("build/release/bin/impart")
        self.assertEqual(top_level.problems(self.root), [])

    def test_surplus_name(self):
        self.write("notes.txt")
        self.assertEqual(top_level.problems(self.root), ["notes.txt: does not belong on the top level"])

    def test_missing_name(self):
        (self.root / "LICENSE").unlink()
        self.assertEqual(top_level.problems(self.root), ["LICENSE: is missing"])


class SourceFormat(Tree):
    def test_finds_the_line(self):
        self.write(".clang-format", "BasedOnStyle: Google\n")
        self.write("src/good.cpp", "int good() { return 1; }\n")
        self.assertEqual(source_format.problems(self.root, "clang-format"), ([], 1))
        self.write("src/bad.cpp", "int good() { return 1; }\nint  bad(){ return 1; }\n")
        self.assertEqual(source_format.problems(self.root, "clang-format"),
                         (["src/bad.cpp:2: not as clang-format writes it"], 2))

    def test_fails_without_clang_format(self):
        script = pathlib.Path(source_format.__file__)
        done = subprocess.run([sys.executable, script, self.root, "no-such-clang-format"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("tools/setup --test", done.stderr)


class StaticAnalysis(Tree):
    def setUp(self):
        super().setUp()
        self.root = self.root.resolve()
        self.build = self.root / "build"
        self.write(".clang-tidy", "Checks: '-*,modernize-use-nullptr'\nWarningsAsErrors: '*'\n")
        self.write("include/impart/a.hpp", "inline int a() { return 1; }\n")
        self.write("src/good.cpp", '#include "impart/a.hpp"\nint* good() { return a() == 1 ? nullptr : nullptr; }\n')
        commands = [{"directory": str(self.root), "file": f"{folder}/{name}.cpp",
                     "command": f"c++ -Iinclude -c {folder}/{name}.cpp"}
                    for folder, name in (("src", "good"), ("tests", "not_ours"))]
        self.write("build/compile_commands.json", json.dumps(commands))

    def run_check(self):
        """The findings, and how many files were read."""
        for cache in (static_analysis.contents, static_analysis.included):
            cache.cache_clear()
        found, read, count = static_analysis.findings(self.root, self.build, shutil.which("clang-tidy"),
                                                      self.build / "passed")
        self.assertEqual(count, 1)
        return found, read

    def test_reads_what_has_changed(self):
        self.assertEqual(self.run_check(), ([], 1))
        self.assertEqual(self.run_check(), ([], 0))
        self.write("include/impart/a.hpp", "inline int a() { return 2; }\n")
        self.assertEqual(self.run_check(), ([], 1))

    def test_a_finding_stays(self):
        self.write("src/good.cpp", "int* bad() { return 0; }\n")
        for _ in range(2):
            found, read = self.run_check()
            self.assertEqual((len(found), read), (1, 1))
            self.assertIn("src/good.cpp:1:21: error: use nullptr", found[0])

    def test_fails_without_clang_tidy(self):
        script = pathlib.Path(static_analysis.__file__)
        done = subprocess.run([sys.executable, script, self.root, self.build, "no-such-clang-tidy"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("tools/setup --test", done.stderr)


class TestList(unittest.TestCase):
    README = "Text.\n\nLabels: `unit` (no MPI),\n`long`.\n\n`other`\n"

    def expect(self, *wanted, labels=("unit", "long"), **properties):
        properties = {"TIMEOUT": 1.0, "LABELS": list(labels)} | properties
        test = {"name": "it", "properties": [{"name": k, "value": v} for k, v in properties.items() if v]}
        self.assertEqual(test_list.problems([test], test_list.documented_labels(self.README)), list(wanted))

    def test_what_it_should_be(self):
        self.expect()

    def test_patterns_that_hide_failures(self):
        self.expect("it: SKIP_REGULAR_EXPRESSION hides a failure", SKIP_REGULAR_EXPRESSION=["SKIPPED"])
        self.expect("it: PASS_REGULAR_EXPRESSION hides a failure", PASS_REGULAR_EXPRESSION=["passed"])

    def test_labels(self):
        self.expect("label 'long': no test has it", labels=["unit"])
        self.expect("label 'slow': tests/README.md does not name it", labels=["unit", "long", "slow"])
        self.expect("it: has no label", "label 'long': no test has it", "label 'unit': no test has it", labels=())

    def test_a_test_that_may_hang(self):
        self.expect("it: has no TIMEOUT", TIMEOUT=None)


if __name__ == "__main__":
    unittest.main()
