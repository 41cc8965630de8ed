"""A tensor axis: every rank holds a part of each tensor, and the run is that of one rank, up to rounding."""

import json
import shutil
import signal
import subprocess
import unittest

from harness import DATASET, DECK, IMPART, IMPART_CKPT, MODEL, RUN, SECONDS, TRAIN, EndToEnd

# Small steps, so that rounding does not grow.
SLOW = (RUN + DATASET + MODEL + TRAIN).replace("epochs = 2", "epochs = 400").replace("0.05", "0.0005")

MEASURE = """
[[stage]]
name = "measured"
kind = "evaluate"
models = "teacher"
dataset = "tiny"
"""


class Mesh(EndToEnd):
    def losses(self, output="runs"):
        """The last one that was logged of each epoch."""
        lines = (self.dir / output / "t/metrics.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return {event["epoch"]: event["value"] for event in events if event["name"] == "train.loss"}

    def assert_same_losses(self, one, other):
        self.assertEqual(one.keys(), other.keys())
        for epoch, loss in one.items():
            self.assertAlmostEqual(other[epoch] / loss, 1, delta=1e-4, msg=f"epoch {epoch}")

    def test_the_data_axis_keeps_its_bits(self):
        self.deck(DECK + "mesh = { tensor = 2 }\n")
        for ranks in (2, 4, 8):
            self.run_deck(ranks, "--output", f"r{ranks}")
            self.assert_equal_models(self.model(output="r2"), self.model(output=f"r{ranks}"))
        info = subprocess.run([IMPART_CKPT, "info", self.model(output="r4"), "--json"], capture_output=True, text=True,
                              timeout=SECONDS, check=True)
        self.assertIn('"data=2 tensor=2"', info.stdout)
        self.deck(DECK)
        self.run_deck(1, "--output", "r1")
        self.assert_same_losses(self.losses("r1"), self.losses("r2"))
        # Equal tensors, and whole ones: what comes next takes them as any others.
        self.run_deck(1, "--output", "r4")

    def test_batch_norm_over_the_data_axis(self):
        self.deck(DECK.replace('kind = "batch_norm"', 'kind = "batch_norm", sync = true'))
        self.run_deck(2, "--output", "r2")
        self.deck(DECK.replace('kind = "batch_norm"', 'kind = "batch_norm", sync = true') + "mesh = { tensor = 2 }\n")
        for ranks in (4, 8):
            self.run_deck(ranks, "--output", f"r{ranks}")
        self.assert_equal_models(self.model(output="r4"), self.model(output="r8"))
        self.assert_same_losses(self.losses("r2"), self.losses("r4"))
        self.assert_refused(2, "has nothing to synchronise on one rank", ranks=(2,))

    def test_continues_on_any_mesh(self):
        self.deck(SLOW)
        self.run_deck(1, "--output", "whole")
        for ranks in (1, 4):
            self.deck(SLOW + "mesh = { data = 2, tensor = 2 }\n")
            self.stop(4, signal.SIGTERM)
            self.deck(SLOW)
            self.assertIn("continuing after step", self.run_deck(ranks).stderr_text)
            self.assertEqual(self.stage("teacher")["status"], "done")
            self.assert_same_losses(self.losses("whole"), self.losses())
            shutil.rmtree(self.dir / "runs")

    def test_what_is_finished_needs_no_ranks(self):
        measured = DECK + "mesh = { tensor = 2 }\n" + MEASURE
        self.deck(measured)
        self.run_deck(2, "--stages", "teacher")
        self.run_deck(1, "--stages", "measured")
        self.assertEqual(self.run_deck(1).stdout_text.count("(reused)"), 2)
        for changed in (measured.replace("epochs = 2", "epochs = 3"), measured.replace("filters = 4", "filters = 8")):
            self.deck(changed)
            self.assertIn("mesh.tensor = 2 does not divide 1 rank", self.run_deck(1, code=2).stderr_text)
        self.deck(measured)
        self.assertIn("mesh.tensor = 2", self.run_deck(1, "--fresh", code=2).stderr_text)

    def test_check_says_what_a_rank_needs_and_sends(self):
        self.deck(DECK + "mesh = { tensor = 2 }\n")
        checked = subprocess.run([IMPART, "check", "deck.toml", "--ranks", "4"], cwd=self.dir, capture_output=True,
                                 text=True, timeout=SECONDS)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        for wanted in ("mesh data 2 x pipeline 1 x tensor 2", "memory of a rank", "parameters", "gradients",
                       "optimizer", "activations", "on the data axis", "on the tensor axis"):
            self.assertIn(wanted, checked.stdout)

    def test_what_does_not_fit_is_refused(self):
        for mesh, ranks, wanted in (
            ("{ data = 3, tensor = 2 }", 4, "expected 4 ranks, got 3 x 1 x 2"),
            ("{ tensor = 3 }", 4, "mesh.tensor = 3 does not divide 4 ranks: expected 1, 2 or 4"),
            ("{ tensor = 3 }", 3, "the tensor axis does not divide the channels"),
            ("{ pipeline = 2 }", 2, "only 1 is possible yet"),
            ("{ tensor = 0 }", 2, "mesh.tensor"),
        ):
            self.deck(DECK + f"mesh = {mesh}\n")
            checked = subprocess.run([IMPART, "check", "deck.toml", "--ranks", str(ranks)], cwd=self.dir,
                                     capture_output=True, text=True, timeout=SECONDS)
            self.assertEqual(checked.returncode, 2, checked.stdout)
            self.assertIn(wanted, checked.stderr)
            if "channels" in wanted:
                self.assertIn("tensor = 1, 2, 4 would do", checked.stderr)


if __name__ == "__main__":
    unittest.main()
