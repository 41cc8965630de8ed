"""The decks of inputs/: each passes its check, and those that no other test runs do so in short.

That of data which is not shipped is test_shared_data.py's.
"""

import math
import unittest

from harness import OfInputs


class Decks(OfInputs):
    def test_digits(self):
        self.check_deck("digits.toml")

    def test_characters(self):
        self.check_deck("characters.toml")
        losses, _ = self.run_short("characters.toml", "stage.characters.epochs=2", "model.transformer.width=32",
                                   "model.transformer.ff=64", "model.transformer.layers=1", "dataset.gpl.stride=64")
        self.assertLess(losses[-1], losses[0])
        self.assertLess(losses[-1], math.log(76))  # what guessing gives


if __name__ == "__main__":
    unittest.main()
