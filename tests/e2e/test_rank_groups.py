"""Stages that do not depend on each other run at the same time, each on ranks of its own."""

import json
import unittest

from harness import DATASET, DECK, MODEL, RUN, TRAIN, EndToEnd

OTHER = TRAIN.replace('"teacher"', '"other"') + "seed = 9\n"
MEAN = """
[[stage]]
name = "mean"
kind = "merge"
inputs = ["teacher", "other"]
dataset = "tiny"
"""
BESIDE = RUN + DATASET + MODEL + TRAIN + "ranks = 0.5\n" + OTHER + "ranks = 1\n" + MEAN


class RankGroups(EndToEnd):
    def ranks_of(self, name):
        return [row["rank"] for row in self.stage(name)["ranks"]]

    def test_two_teachers_train_at_once(self):
        """Their weights are those that they have alone, and the records are whole."""
        self.run_deck(1, "--output", "alone", deck=self.deck(DECK + OTHER + MEAN, "alone.toml"))
        self.deck(BESIDE)
        self.run_deck(2)
        self.assertEqual((self.ranks_of("teacher"), self.ranks_of("other")), ([0], [1]))
        for name in ("teacher", "other", "mean"):
            self.assert_equal_models(self.model(name, "alone"), self.model(name))
        events = [json.loads(line) for line in (self.dir / "runs/t/metrics.jsonl").read_text().splitlines()]
        for name in ("teacher", "other"):
            losses = [e["epoch"] for e in events if e["stage"] == name and e["name"] == "train.loss"]
            self.assertEqual(losses, [1, 2])
        again = self.run_deck(4)
        self.assertEqual(again.stdout_text.count("(reused)"), 3)

    def test_equal_stages_share_the_ranks_by_themselves(self):
        self.deck(DECK + OTHER)
        self.run_deck(2)
        self.assertEqual((self.ranks_of("teacher"), self.ranks_of("other")), ([0], [1]))

    def test_batch_norm_over_ranks_is_dealt_several(self):
        self.deck((DECK + OTHER).replace('kind = "batch_norm"', 'kind = "batch_norm", sync = true'))
        self.run_deck(2)
        self.assertEqual((self.ranks_of("teacher"), self.ranks_of("other")), ([0, 1], [0, 1]))

    def test_a_short_stage_does_not_take_ranks_from_a_long_one(self):
        self.deck(DECK + OTHER.replace("epochs = 2", "epochs = 40"))
        self.run_deck(2)
        self.assertEqual((self.ranks_of("teacher"), self.ranks_of("other")), ([0, 1], [0, 1]))

    def test_four_ranks(self):
        self.deck(BESIDE.replace("ranks = 1\n", "ranks = 2\n"))
        self.run_deck(4)
        self.assertEqual((self.ranks_of("teacher"), self.ranks_of("other")), ([0, 1], [2, 3]))

    def test_a_failure_leaves_the_others_their_results(self):
        self.deck(BESIDE.replace('name = "other"\n', 'name = "other"\n', 1).replace(
            "learning_rate = 0.05, momentum = 0.9 }\nseed = 9", "learning_rate = 1e30, momentum = 0.9 }\nseed = 9"))
        failed = self.run_deck(2, code=1)
        self.assertRegex(failed.stderr_text, "(?m)^error: stage other: .*the loss is")
        self.assertEqual(failed.stderr_text.count("error:"), 1)
        self.assertEqual(self.stage("teacher")["status"], "done")
        self.assertEqual(self.stage("other")["status"], "failed")

    def test_more_ranks_than_there_are(self):
        self.deck(BESIDE.replace("ranks = 1\n", "ranks = 4\n"))
        self.assertRegex(self.run_deck(2, code=2).stderr_text,
                         r"deck.toml:\d+: stage.other.ranks: the stage asks for 4 ranks, and there are 2")
        self.deck(BESIDE.replace("ranks = 1\n", "ranks = 1.5\n"))
        self.assertRegex(self.run_deck(2, code=2).stderr_text, "expected a number of ranks, or a part of them below 1")


if __name__ == "__main__":
    unittest.main(verbosity=2)
