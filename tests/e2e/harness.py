"""What the end-to-end tests share: tiny data, tiny decks, and the real program under mpirun."""

import gzip
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import time
import unittest

IMPART = os.environ["IMPART"]
IMPART_CKPT = os.environ["IMPART_CKPT"]
MPIEXEC = os.environ["IMPART_MPIEXEC"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 60  # a run that takes longer hangs

CLASSES = 4
SIDE = 8

RUN = """
[run]
name = "t"
seed = 3
"""

DATASET = """
[dataset.tiny]
format = "idx"
images = "images.gz"
labels = "labels.gz"
classes = 4
split = { train = 0.75, validation = 0.25 }
"""

MODEL = """
[model.net]
input = [1, 8, 8]
classes = 4
layers = [
  { kind = "conv2d", filters = 4, kernel = 3 }, { kind = "batch_norm" }, { kind = "relu" },
  { kind = "max_pool2d", kernel = 2 }, { kind = "flatten" }, { kind = "dropout", rate = 0.1 },
  { kind = "dense", units = 4 },
]
"""

TRAIN = """
[[stage]]
name = "teacher"
kind = "train"
model = "net"
dataset = "tiny"
epochs = 2
batch_size = 16
optimizer = { kind = "sgd", learning_rate = 0.05, momentum = 0.9 }
"""

DECK = RUN + DATASET + MODEL + TRAIN


def idx_images(images):
    return struct.pack(">IIII", 0x803, len(images), SIDE, SIDE) + b"".join(images)


def idx_labels(labels):
    return struct.pack(">II", 0x801, len(labels)) + bytes(labels)


def samples(count=100, seed=1):
    """Images whose bright quarter is their class, in noise."""
    draw = random.Random(seed)
    images, labels = [], []
    for i in range(count):
        label = i % CLASSES
        pixels = bytearray(draw.randrange(90) for _ in range(SIDE * SIDE))
        for y in range(4):
            for x in range(4):
                pixels[(y + 4 * (label // 2)) * SIDE + x + 4 * (label % 2)] += draw.randrange(120)
        images.append(bytes(pixels))
        labels.append(label)
    return images, labels


class EndToEnd(unittest.TestCase):
    """A test with a directory of its own, in which the tiny data set and `deck.toml` are."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="impart-e2e-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        images, labels = samples()
        self.write_gz("images.gz", idx_images(images))
        self.write_gz("labels.gz", idx_labels(labels))
        self.deck(DECK)

    def write(self, name, data):
        path = self.dir / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def write_gz(self, name, data):
        return self.write(name, gzip.compress(data, mtime=0))

    def deck(self, text, name="deck.toml"):
        return self.write(name, text)

    def start(self, ranks, *args):
        return subprocess.Popen([MPIEXEC, "-n", str(ranks), IMPART, *map(str, args)], cwd=self.dir, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def impart(self, ranks, *args):
        """Runs the program to its end; fails when that does not come."""
        process = self.start(ranks, *args)
        try:
            process.stdout_text, process.stderr_text = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.fail(f"impart {args} hangs on {ranks} ranks")
        return process

    def run_deck(self, ranks, *args, deck="deck.toml", code=0):
        process = self.impart(ranks, "run", deck, "--progress", "none", *args)
        self.assertEqual(process.returncode, code, process.stdout_text + process.stderr_text)
        return process

    def ranks_of(self, launcher):
        """Process ids of the program under an mpirun."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    parent = int(stat.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == launcher.pid:
                found.append(int(pid))
        return sorted(found)

    def stop(self, ranks, number, to_launcher=False):
        """Starts the long run and ends it by a signal to its last rank, or to mpirun, after some epochs."""
        process = self.start(ranks, "run", "deck.toml", "--progress", "none", "--threads", 1)
        log = self.dir / "runs/t/metrics.jsonl"
        lines_before = len(log.read_text().splitlines()) if log.exists() else 0
        deadline = time.monotonic() + 30
        while not log.exists() or len(log.read_text().splitlines()) < lines_before + 20:
            self.assertLess(time.monotonic(), deadline, "the run does not begin")
            self.assertIsNone(process.poll(), "the run ended before it was stopped")
            time.sleep(0.01)
        pids = self.ranks_of(process)
        self.assertEqual(len(pids), ranks)
        os.kill(process.pid if to_launcher else pids[-1], number)
        _, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 75, errors)
        self.assertEqual(self.stage("teacher")["status"], "stopped")
        self.assertFalse(self.model().exists())

    def record(self, output="runs"):
        return json.loads((self.dir / output / "t" / "run.json").read_text())

    def stage(self, name, output="runs"):
        return next(stage for stage in self.record(output)["stages"] if stage["name"] == name)

    def model(self, stage="teacher", output="runs"):
        return self.dir / output / "t" / stage / "model.h5"

    def assert_equal_models(self, a, b):
        result = subprocess.run([IMPART_CKPT, "diff", a, b], capture_output=True, text=True, timeout=SECONDS)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def assert_refused(self, code, *wanted, ranks=(1, 2), args=(), deck="deck.toml", lines=1):
        """The run ends with `code`, and says what is wrong in `lines` lines that hold all of `wanted`."""
        for count in ranks:
            process = self.run_deck(count, *args, deck=deck, code=code)
            errors = [line for line in process.stderr_text.splitlines() if "error: " in line]
            summary = [line for line in errors if line.endswith("nothing was started")]
            problems = [line for line in errors if line not in summary]
            self.assertEqual(len(problems), lines, process.stderr_text)
            for text in wanted:
                self.assertIn(text, "\n".join(problems), f"{count} ranks")
            if summary:
                self.assertEqual(code, 2)
                self.assertFalse((self.dir / "runs").exists(), "nothing should have been started")


class OfInputs(EndToEnd):
    """A test of the decks in inputs/."""

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
