"""Eight ranks on four hosts give the weights of one rank: shared memory within a host, messages between."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from four_hosts import four_hosts
from harness import DECK, IMPART, EndToEnd


class FourHosts(EndToEnd):
    hosts = None

    def test_same_bits(self):
        self.deck(DECK)
        self.run_deck(1, "--threads", 1, "--output", "r1")
        for ranks, overlap in ((1, "polling"), (1, "thread"), (2, "blocking"), (2, "polling"), (2, "thread")):
            output = f"{overlap}{ranks}"
            self.hosts.mpirun(IMPART, "run", "deck.toml", "--progress", "none", "--threads", 1, "--set",
                              f"run.overlap={overlap}", "--output", output, ranks=ranks, cwd=self.dir)
            self.assert_equal_models(self.model(output="r1"), self.model(output=output))


if __name__ == "__main__":
    with four_hosts() as FourHosts.hosts:
        unittest.main()
