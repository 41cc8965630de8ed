"""The deck whose data is not shipped: it passes its check, and runs in short.

Exit code 77, and one line, where the data is absent. A program of its own, so that CTest says so.
"""

import sys
import unittest

from harness import ROOT, OfInputs

CIFAR = ROOT.parent / "shared/data/cifar10"  # where the deck looks for it


class Cifar(OfInputs):
    def test_cifar_resnet18(self):
        self.check_deck("cifar_resnet18.toml")
        losses, directory = self.run_short("cifar_resnet18.toml", "stage.resnet18.epochs=2",
                                           "model.resnet18.width=0.125", "dataset.cifar.limit.train=40")
        self.assertLess(losses[-1], losses[0])
        self.assertTrue((directory / "test/metrics.json").exists())


if __name__ == "__main__":
    if not CIFAR.is_dir():
        print(f"skipped: the CIFAR-10 images are not in {CIFAR}")
        sys.exit(77)
    unittest.main()
