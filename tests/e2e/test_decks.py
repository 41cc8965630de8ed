"""The decks of inputs/: each passes its check, and those that no other test runs do so in short."""

import json
import math
import pathlib
import subprocess
import unittest

from harness import IMPART, SECONDS, EndToEnd

ROOT = pathlib.Path(__file__).resolve().parents[2]
CIFAR = ROOT.parent / "shared/data/cifar10"


class Decks(EndToEnd):
    def check_deck(self, name):
        done = subprocess.run([IMPART, "check", ROOT / "inputs" / name, "--ranks", "2"], capture_output=True, text=True,
                              timeout=SECONDS)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def run_short(self, name, *settings):
        """The losses of the deck's first stage, epoch by epoch."""
        arguments = [part for setting in settings for part in ("--set", setting)]
        self.run_deck(2, "--threads", 1, *arguments, deck=ROOT / "inputs" / name)
        directory = next((self.dir / "runs").iterdir())
        events = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        return [event["value"] for event in events if event["name"] == "train.loss"], directory

    def test_digits(self):
        self.check_deck("digits.toml")

    def test_characters(self):
        self.check_deck("characters.toml")
        losses, _ = self.run_short("characters.toml", "stage.characters.epochs=2", "model.transformer.width=32",
                                   "model.transformer.ff=64", "model.transformer.layers=1", "dataset.gpl.stride=64")
        self.assertLess(losses[-1], losses[0])
        self.assertLess(losses[-1], math.log(76))  # what guessing gives

    @unittest.skipUnless(CIFAR.is_dir(), "the CIFAR-10 images are not here")
    def test_cifar_resnet18(self):
        self.check_deck("cifar_resnet18.toml")
        losses, directory = self.run_short("cifar_resnet18.toml", "stage.resnet18.epochs=2",
                                           "model.resnet18.width=0.125", "dataset.cifar.limit.train=40")
        self.assertLess(losses[-1], losses[0])
        self.assertTrue((directory / "test/metrics.json").exists())


if __name__ == "__main__":
    unittest.main()
