"""The weights do not depend on ranks, threads, or on where a run was stopped and went on."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time
import unittest

from harness import (DATASET, DECK, IMPART, MODEL, MPIEXEC, RUN, SECONDS, TRAIN, EndToEnd, idx_images, idx_labels,
                     samples)

PIPELINE = DECK + """
[[stage]]
name = "other"
kind = "train"
model = "net"
init = "teacher"
dataset = "tiny"
train_part = { index = 1, of = 2 }
batch_size = 8
augment = [ { kind = "flip" }, { kind = "crop", padding = 1 }, { kind = "noise" }, { kind = "mixup" } ]
optimizer = { kind = "adamw" }
schedule = { kind = "cosine", warmup_epochs = 0.5 }

[[stage]]
name = "mean"
kind = "merge"
inputs = ["teacher", "other"]
dataset = "tiny"
recalibrate = "tiny"

[[stage]]
name = "vote"
kind = "ensemble"
members = ["teacher", "other"]

[[stage]]
name = "student"
kind = "distil"
teachers = ["vote"]
model = "net"
dataset = "tiny"
seed = 5
batch_size = 16

[[stage]]
name = "moved"
kind = "transfer"
from = "mean"
head = "replace"
freeze = ["conv*"]
dataset = "tiny"
batch_size = 16

[[stage]]
name = "clients"
kind = "federate"
model = "net"
dataset = "tiny"
clients = 3
rounds = 2
partition = { kind = "dirichlet", alpha = 5.0, min_samples = 2 }
batch_size = 4

[[stage]]
name = "averaged"
kind = "train"
model = "net"
dataset = "tiny"
epochs = 2
batch_size = 8
accumulate = 2
objective = { kind = "cross_entropy", class_weights = [1, 2, 0.5, 1], label_smoothing = 0.1, l2 = 1e-3 }
optimizer = { kind = "lamb", clip_norm = 1.0 }
average = { kind = "ema", decay = 0.9 }

[[stage]]
name = "seldom"
kind = "train"
model = "net"
dataset = "tiny"
epochs = 3
batch_size = 16
local_steps = 3
optimizer = { kind = "adamw" }

[[stage]]
name = "in_turn"
kind = "train"
model = "net"
dataset = "tiny"
order = "cyclic"
epochs = 2
parts = 5
local_epochs = 2
local_batch_size = 8
optimizer = { kind = "sgd", learning_rate = 0.05, momentum = 0.9 }
schedule = { kind = "cosine" }

[model.line]
input = [1, 8, 8]
classes = 4
layers = [{ kind = "flatten" }, { kind = "dense", units = 4 }]

[[stage]]
name = "ridge"
kind = "train"
model = "line"
dataset = "tiny"
optimizer = { kind = "least_squares", ridge = 1.0 }

[[stage]]
name = "logistic"
kind = "train"
model = "line"
dataset = "tiny"
optimizer = { kind = "newton", l2 = 0.1 }

[[stage]]
name = "quasi"
kind = "train"
model = "line"
dataset = "tiny"
batch_size = 16
objective = "huber"
optimizer = { kind = "lbfgs", l2 = 0.01, max_iterations = 20 }

[[stage]]
name = "result"
kind = "evaluate"
models = ["teacher", "vote", "student", "moved", "clients", "ridge", "logistic"]
dataset = "tiny"
"""
# Every kind of layer that the pipeline above has not.
GRAPHS = RUN + DATASET + """
[dataset.words]
format = "text"
file = "words.txt"
classes = 8
context = 12
stride = 4
split = { train = 0.75, validation = 0.25 }

[model.words]
arch = "transformer"
classes = 8
context = 12
layers = 2
width = 16
heads = 2
dropout = 0.2

[model.graph]
input = [1, 8, 8]
classes = 4
layers = [
  { kind = "conv2d", filters = 8, kernel = 3, padding = 1, name = "a" }, { kind = "batch_norm" },
  { kind = "relu6", name = "a.out" }, { kind = "conv2d", filters = 8, kernel = 3, padding = 1, groups = 8 },
  { kind = "group_norm", groups = 2, name = "b" }, { kind = "add", from = ["a.out", "b"], name = "sum" },
  { kind = "leaky_relu" }, { kind = "concat", from = ["leaky_relu1", "a.out", "input"] },
  { kind = "adaptive_max_pool2d", size = 5 }, { kind = "conv2d", filters = 6, kernel = 3, dilation = 2 },
  { kind = "adaptive_avg_pool2d", size = 2 }, { kind = "gelu" }, { kind = "flatten" },
  { kind = "dense", units = 12 }, { kind = "layer_norm" }, { kind = "tanh" },
  { kind = "dense", units = 9 }, { kind = "sigmoid" }, { kind = "dense", units = 7 }, { kind = "softmax" },
  { kind = "dense", units = 4 },
]

[[stage]]
name = "writer"
kind = "train"
model = "words"
dataset = "words"
epochs = 2
batch_size = 16
optimizer = { kind = "adamw", learning_rate = 0.01 }

[[stage]]
name = "looker"
kind = "train"
model = "graph"
dataset = "tiny"
epochs = 2
batch_size = 16
optimizer = { kind = "sgd", learning_rate = 0.05, momentum = 0.9 }
"""

MODELS = (
    "teacher", "other", "mean", "vote", "student", "moved", "clients", "averaged", "seldom", "in_turn", "ridge", "logistic",
    "quasi",
)  # fmt: skip

LONG = (RUN + DATASET + MODEL + TRAIN).replace("epochs = 2", "epochs = 400")


class SameBits(EndToEnd):
    def test_ranks_and_threads(self):
        self.deck(PIPELINE)
        self.assert_same_everywhere(MODELS)

    def test_ranks_and_threads_of_graphs(self):
        self.write("words.txt", "".join(random.Random(2).choices("abcdefgh", k=700)))
        self.deck(GRAPHS)
        self.assert_same_everywhere(("writer", "looker"))

    def test_overlap(self):
        """Whoever sums the gradients; 70 samples, whose last batch leaves ranks without one."""
        images, labels = samples(94)
        self.write_gz("images.gz", idx_images(images))
        self.write_gz("labels.gz", idx_labels(labels))
        self.deck(DECK)
        self.run_deck(1, "--threads", 1, "--output", "r1")
        for overlap in ("auto", "blocking", "polling", "thread"):
            for ranks in (2, 4, 8):
                output = f"{overlap}{ranks}"
                self.run_deck(ranks, "--set", f"run.overlap={overlap}", "--output", output)
                self.assert_equal_models(self.model(output="r1"), self.model(output=output))
        self.run_deck(2, "--set", "run.reproducible=false", "--fresh", "--output", "r1")
        self.assertGreater(self.stage("teacher", "r1")["metrics"]["validation.accuracy"], 0.3)

    def test_batch_norm_over_ranks(self):
        """On one rank there is nothing to sum; a client of the federation has a batch of its own."""
        deck = PIPELINE.replace('kind = "batch_norm"', 'kind = "batch_norm", sync = true').replace("local_steps = 3\n", "")
        self.deck(deck)
        self.run_deck(2, "--threads", 1, "--output", "r2")
        for ranks, overlap in ((2, "thread"), (4, "auto"), (4, "polling"), (8, "blocking")):
            output = f"r{ranks}{overlap}"
            self.run_deck(ranks, "--threads", 2, "--set", f"run.overlap={overlap}", "--output", output)
            for stage in MODELS:
                self.assert_equal_models(self.model(stage, "r2"), self.model(stage, output))
        self.assert_refused(2, "has nothing to synchronise on one rank", ranks=(1,), lines=6)
        self.deck(PIPELINE)
        self.run_deck(2, "--output", "apart")
        self.assertNotEqual(self.stage("teacher", "apart")["digest"], self.stage("teacher", "r2")["digest"])
        self.assertEqual(self.stage("clients", "apart")["metrics"], self.stage("clients", "r2")["metrics"])

    def test_stop_and_continue_with_batch_norm_over_ranks(self):
        self.deck(LONG.replace('kind = "batch_norm"', 'kind = "batch_norm", sync = true'))
        self.run_deck(2, "--output", "whole")
        self.stop(2, signal.SIGTERM)
        self.assertIn("continuing after step", self.run_deck(4).stderr_text)
        self.assert_equal_models(self.model(output="whole"), self.model())

    def test_three_ranks(self):
        deck = PIPELINE.replace("seed = 3", "seed = 3\nshards = 6")
        for batch in (8, 16):
            deck = deck.replace(f"batch_size = {batch}\n", "batch_size = 12\n")
        for solver in ("least_squares", "newton"):
            deck = deck.replace(f'optimizer = {{ kind = "{solver}"', f'batch_size = 12\noptimizer = {{ kind = "{solver}"')
        self.deck(deck)
        self.assert_same_everywhere(MODELS, ((3, 1), (2, 3), (6, 1)))

    def assert_same_everywhere(self, models, cuts=((2, 1), (4, 1), (1, 2), (2, 2))):
        self.run_deck(1, "--threads", 1, "--output", "r1")
        for ranks, threads in cuts:
            output = f"r{ranks}t{threads}"
            self.run_deck(ranks, "--threads", threads, "--output", output)
            for stage in models:
                self.assert_equal_models(self.model(stage, "r1"), self.model(stage, output))
            for one, other in zip(self.record("r1")["stages"], self.record(output)["stages"]):
                self.assertEqual(one["metrics"], other["metrics"])
                self.assertEqual(one["digest"], other["digest"])

    def test_stop_and_continue_on_other_ranks(self):
        self.deck(LONG)
        self.run_deck(1, "--output", "whole")
        self.stop(2, signal.SIGTERM)
        self.stop(1, signal.SIGINT)
        self.stop(2, signal.SIGUSR1, to_launcher=True)
        self.assertIn("continuing after step", self.run_deck(4).stderr_text)
        self.assertEqual(self.stage("teacher")["status"], "done")
        self.assert_equal_models(self.model(output="whole"), self.model())
        self.assertFalse((self.model().parent / "state").exists(), "a finished stage keeps no state")

    def test_other_distributions_stop_and_continue_on_other_ranks(self):
        cyclic = LONG.replace("epochs = 400", 'order = "cyclic"\nepochs = 100\nlocal_epochs = 2\nparts = 3')
        cyclic = cyclic.replace("batch_size", "local_batch_size")
        for deck in (LONG.replace("epochs", "local_steps = 3\nepochs"), cyclic):
            self.deck(deck)
            self.run_deck(1, "--output", "whole", "--fresh")
            self.stop(2, signal.SIGTERM)
            self.stop(1, signal.SIGINT)
            what = "visit" if deck is cyclic else "step"
            self.assertRegex(self.run_deck(4).stderr_text, rf"continuing after {what} \d+ of \d+ ")
            self.assert_equal_models(self.model(output="whole"), self.model())
            shutil.rmtree(self.dir / "runs")

    def test_each_value_is_logged_once(self):
        """Whatever a killed attempt has logged after the state that the next one continues from."""
        self.deck(LONG)
        self.stop(1, signal.SIGTERM)
        log = self.dir / "runs/t/metrics.jsonl"
        last = json.loads(log.read_text().splitlines()[-1])
        step = last["step"] // last["epoch"]  # of an epoch
        lost = [{**last, "epoch": last["epoch"] + i, "step": last["step"] + i * step, "value": -1} for i in (1, 2, 3)]
        other = json.dumps({**last, "stage": "other"})
        log.write_text(other + "\n" + log.read_text() + "".join(json.dumps(line) + "\n" for line in lost) + other[:20])
        self.assertIn("continuing after step", self.run_deck(2).stderr_text)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertEqual(lines[0]["stage"], "other")
        wanted = [(epoch, step * epoch, name) for epoch in range(1, 401)
                  for name in ("train.loss", *sorted({line["name"] for line in lines} - {"train.loss"}))]
        self.assertEqual([(line["epoch"], line["step"], line["name"]) for line in lines[1:]], wanted)
        self.assertGreaterEqual(min(line["value"] for line in lines), 0)

    def test_a_second_run_in_the_same_directory_is_refused(self):
        self.deck(LONG.replace("epochs = 400", "epochs = 100000"))
        process = self.start(1, "run", "deck.toml", "--progress", "none")
        log = self.dir / "runs/t/metrics.jsonl"
        deadline = time.monotonic() + 30
        while not log.exists():
            self.assertLess(time.monotonic(), deadline, "the run does not begin")
            time.sleep(0.01)
        for ranks in (1, 2):
            self.assertIn("another run is using this directory", self.run_deck(ranks, code=2).stderr_text)
        self.assertIsNone(process.poll(), "the first run goes on")
        os.kill(self.ranks_of(process)[0], signal.SIGTERM)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 75)

    def test_stopped_while_mpi_starts(self):
        """mpirun stands still, so that its rank waits for it in MPI_Init."""
        process = self.start(1, "run", "deck.toml", "--progress", "none")
        rank = self.wait_for(lambda: next((p for p in self.ranks_of(process) if self.runs_impart(p)), None))
        process.send_signal(signal.SIGSTOP)
        self.addCleanup(process.send_signal, signal.SIGCONT)
        self.wait_for(lambda: self.catches(rank, signal.SIGUSR1))
        os.kill(rank, signal.SIGUSR1)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 75, errors)
        self.assertIn("the same command continues the run", errors)
        self.run_deck(1)

    def wait_for(self, what):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if found := what():
                return found
            time.sleep(0.001)
        self.fail("waited in vain")

    @staticmethod
    def runs_impart(pid):
        with contextlib.suppress(OSError):
            return os.path.samefile(f"/proc/{pid}/exe", IMPART)
        return False

    @staticmethod
    def catches(pid, number):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1

    def test_killed_and_continued(self):
        self.deck(LONG)
        self.run_deck(2, "--output", "whole")
        process = self.start(1, "run", "deck.toml", "--progress", "none")
        state = self.dir / "runs/t/teacher/state"
        deadline = time.monotonic() + 30
        while not list(state.glob("step-*.h5")):
            self.assertLess(time.monotonic(), deadline, "no state is saved")
            self.assertIsNone(process.poll(), "the run ended before it was killed")
            time.sleep(0.01)
        os.kill(self.ranks_of(process)[0], signal.SIGKILL)
        process.communicate(timeout=30)
        self.assertIn("continuing after step", self.run_deck(2).stderr_text)
        self.assert_equal_models(self.model(output="whole"), self.model())


class InstructionSets(EndToEnd):
    def test_ranks_of_unlike_processors(self):
        """They keep to what the lowest of them has."""
        low = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
        subprocess.run([MPIEXEC, "-n", "1", IMPART, "run", "deck.toml", "--output", "low"], cwd=self.dir, env=low,
                       check=True, capture_output=True, timeout=SECONDS)
        # Not as two programs with a colon between them: on those, mpirun of Debian 13 (Open MPI 5.0.7) crashes.
        one_low = 'if [ "$OMPI_COMM_WORLD_RANK" = 0 ]; then export ONEDNN_MAX_CPU_ISA=AVX2; fi; exec "$@"'
        subprocess.run([MPIEXEC, "-n", "2", "sh", "-c", one_low, "sh", IMPART, "run", "deck.toml"], cwd=self.dir,
                       check=True, capture_output=True, timeout=SECONDS)
        self.assert_equal_models(self.model(output="low"), self.model())


if __name__ == "__main__":
    unittest.main()
