#!/usr/bin/env python3
"""Shows that each check can fail: runs it on made-up trees, with and without a mistake."""
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import include_table
import source_format
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


@unittest.skipUnless(shutil.which("clang-format"), "clang-format is not installed")
class SourceFormat(Tree):
    def test_finds_the_line(self):
        self.write(".clang-format", "BasedOnStyle: Google\n")
        self.write("src/good.cpp", "int good() { return 1; }\n")
        self.assertEqual(source_format.problems(self.root, "clang-format"), ([], 1))
        self.write("src/bad.cpp", "int good() { return 1; }\nint  bad(){ return 1; }\n")
        self.assertEqual(source_format.problems(self.root, "clang-format"),
                         (["src/bad.cpp:2: not as clang-format writes it"], 2))


if __name__ == "__main__":
    unittest.main()
