"""Reuse, records, and the commands."""

import gzip
import json
import os
import shutil
import subprocess
import time
import unittest

from harness import DECK, IMPART, IMPART_CKPT, SECONDS, TRAIN, EndToEnd

TWO = DECK + TRAIN.replace('"teacher"', '"second"').replace("epochs = 2", 'init = "teacher"\nepochs = 1')


class Reuse(EndToEnd):
    def setUp(self):
        super().setUp()
        self.deck(TWO)
        self.run_deck(2)

    def statuses(self):
        return {stage["name"]: stage["status"] for stage in self.record()["stages"]}

    def test_finished_stages_are_reused_on_any_ranks(self):
        process = self.run_deck(1)
        self.assertEqual(self.statuses(), {"teacher": "reused", "second": "reused"})
        self.assertIn("(reused)", process.stdout_text)

    def test_a_checkpoint_says_what_it_was_made_from(self):
        result = subprocess.run([IMPART_CKPT, "lineage", self.model("second")], capture_output=True, text=True,
                                timeout=SECONDS)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("second (train)", result.stdout)
        self.assertIn("teacher (train)", result.stdout)

    def test_a_changed_setting_runs_what_depends_on_it(self):
        self.run_deck(1, "--set", "stage.second.epochs=2")
        self.assertEqual(self.statuses(), {"teacher": "reused", "second": "done"})
        self.run_deck(1, "--set", "stage.second.epochs=2", "--set", "stage.teacher.optimizer.momentum=0.5")
        self.assertEqual(self.statuses(), {"teacher": "done", "second": "done"})

    def test_a_result_of_other_settings_is_used_with_a_warning(self):
        process = self.run_deck(2, "--stages", "second", "--set", "stage.teacher.epochs=1")
        self.assertEqual(process.stderr_text.count("stage.epochs 2 -> 1"), 1, process.stderr_text)
        process = self.run_deck(2, "--stages", "second")
        self.assertNotIn("warning", process.stderr_text)

    def test_changed_data_runs_all(self):
        path = self.dir / "images.gz"
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[100] ^= 1
        self.write_gz("images.gz", bytes(data))
        self.run_deck(1)
        self.assertEqual(self.statuses(), {"teacher": "done", "second": "done"})

    def test_fresh_runs_all(self):
        self.run_deck(1, "--fresh")
        self.assertEqual(self.statuses(), {"teacher": "done", "second": "done"})

    def test_a_damaged_artifact_is_made_again(self):
        digest = self.stage("teacher")["digest"]
        path = self.model()
        path.write_bytes(path.read_bytes()[:-500])
        self.run_deck(2)
        self.assertEqual(self.statuses(), {"teacher": "done", "second": "reused"})
        self.assertEqual(self.stage("teacher")["digest"], digest)

    def test_only_some_stages(self):
        self.run_deck(2, "--stages", "second", "--fresh")
        self.assertEqual(self.statuses(), {"teacher": "done", "second": "done"})
        self.assert_refused_selection()

    def assert_refused_selection(self):
        (self.dir / "runs/t/run.json").unlink()
        process = self.run_deck(2, "--stages", "second", code=2)
        self.assertIn("the artifact of stage 'teacher' is not there", process.stderr_text)
        process = self.run_deck(2, "--stages", "secnd", code=2)
        self.assertIn("did you mean 'second'?", process.stderr_text)


class Records(EndToEnd):
    def test_run_json(self):
        self.run_deck(2, "--threads", 1, "--set", "stage.teacher.epochs=1")
        record = self.record()
        self.assertEqual((record["name"], record["ranks"], record["threads"]), ("t", 2, 1))
        self.assertEqual((record["deck"], record["set"]), ("deck.toml", ["stage.teacher.epochs=1"]))
        self.assertRegex(record["started"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertRegex(record["version"], r"^\d+\.\d+\.\d+$")
        (stage,) = record["stages"]
        self.assertEqual((stage["name"], stage["kind"], stage["status"]), ("teacher", "train", "done"))
        self.assertEqual(stage["artifact"], "teacher/model.h5")
        self.assertRegex(stage["digest"], "^[0-9a-f]{64}$")
        self.assertRegex(stage["key"], "^[0-9a-f]{64}$")
        self.assertGreater(stage["seconds"], 0)
        parts = {"compute", "communication", "input", "checkpoint"}
        self.assertEqual(set(stage["time"]), parts)
        self.assertEqual([set(row) for row in stage["ranks"]], 2 * [parts | {"rank"}])
        self.assertEqual([row["rank"] for row in stage["ranks"]], [0, 1])
        for part in parts:
            self.assertAlmostEqual(stage["time"][part], sum(row[part] for row in stage["ranks"]) / 2)
        self.assertIn(stage["slowest"]["rank"], (0, 1))
        self.assertGreaterEqual(stage["slowest"]["behind"], 0)
        for name in ("train.loss", "validation.accuracy", "validation.loss", "validation.f1_macro"):
            self.assertIn(name, stage["metrics"])
        self.assertGreater(stage["metrics"]["validation.accuracy"], 0.3)

    def test_run_json_tells_the_overlap(self):
        self.run_deck(2, "--set", "run.overlap=polling")
        self.assertEqual(self.stage("teacher")["overlap"], "polling")
        self.run_deck(2, "--set", "stage.teacher.epochs=4", "--fresh")  # 20 steps, more than the choice takes
        self.assertIn(self.stage("teacher")["overlap"], ("blocking", "polling", "thread"))
        self.run_deck(1, "--fresh")
        self.assertNotIn("overlap", self.stage("teacher"))

    def test_metrics_jsonl(self):
        self.run_deck(2)
        lines = [json.loads(line) for line in (self.dir / "runs/t/metrics.jsonl").read_text().splitlines()]
        for line in lines:
            self.assertEqual(set(line), {"stage", "epoch", "step", "name", "value", "t"})
        losses = [line for line in lines if line["name"] == "train.loss"]
        self.assertEqual([line["epoch"] for line in losses], [1, 2])

    def test_metrics_jsonl_forgets_an_attempt_with_other_settings(self):
        self.deck(TWO)
        self.run_deck(2)
        self.run_deck(2, "--set", "stage.teacher.epochs=1", "--stages", "teacher")
        self.run_deck(2, "--set", "stage.teacher.epochs=1", "--stages", "teacher", "--fresh")
        lines = [json.loads(line) for line in (self.dir / "runs/t/metrics.jsonl").read_text().splitlines()]
        losses = [(line["stage"], line["epoch"]) for line in lines if line["name"] == "train.loss"]
        self.assertEqual(losses, [("second", 1), ("teacher", 1)])

    def test_closing_table(self):
        lines = self.run_deck(2).stdout_text.splitlines()
        self.assertEqual(lines[0].split(), ["stage", "what", "metric", "seconds", "artifact"])
        self.assertTrue(any(line.startswith("teacher ") and line.endswith("runs/t/teacher/model.h5") for line in lines))

    def test_time_table(self):
        text = self.run_deck(2).stdout_text
        self.assertRegex(text, r"(?m)^stage +ranks +compute +communication +input +checkpoint +slowest rank$")
        self.assertRegex(text, r"(?m)^teacher +2( +[0-9.]+%){4}  [01] \(\+[0-9.]+%\)$")

    def test_trace(self):
        self.run_deck(2, "--trace")
        trace = json.loads((self.dir / "runs/t/trace.json").read_text())
        spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
        self.assertEqual({event["pid"] for event in spans}, {0, 1})
        names = {event["name"] for event in spans}
        self.assertLessEqual({"stage teacher", "step", "evaluate", "forward", "backward", "sum of gradients"}, names)
        for event in spans:
            self.assertGreaterEqual(event["dur"], 2)
            self.assertGreaterEqual(event["ts"], 0)
        stage = next(event for event in spans if event["name"] == "stage teacher" and event["pid"] == 0)
        steps = [event for event in spans if event["name"] == "step" and event["pid"] == 0]
        # Epochs, and batches of 16 of 75 samples.
        self.assertEqual([event["args"]["step"] for event in steps], list(range(2 * 5)))
        for event in steps:
            self.assertGreaterEqual(event["ts"], stage["ts"])
            self.assertLessEqual(event["ts"] + event["dur"], stage["ts"] + stage["dur"])
        # A run that has nothing to do leaves it.
        before = (self.dir / "runs/t/trace.json").read_bytes()
        self.assertIn("trace.json is left as it was", self.run_deck(2, "--trace").stderr_text)
        self.assertEqual((self.dir / "runs/t/trace.json").read_bytes(), before)

    def test_an_early_end_is_told(self):
        self.deck(DECK.replace("epochs = 2", "epochs = 9\nearly_stopping = { patience = 1, min_delta = 0.9 }"))
        process = self.run_deck(1)
        self.assertIn("(early, epoch 2 of 9)", process.stdout_text)
        self.assertEqual(self.stage("teacher")["note"], "early, epoch 2 of 9")
        self.assertIn("(early, epoch 2 of 9) (reused)", self.run_deck(1).stdout_text)

    def test_start(self):
        """From mpirun to the end of a run of a few steps; the best of three, for a machine may be busy."""
        best = float("inf")
        for _ in range(3):
            begin = time.monotonic()
            self.run_deck(2, "--fresh")
            best = min(best, time.monotonic() - begin)
        self.assertLess(best, float(os.environ.get("IMPART_START_SECONDS", "1.5")))


class Commands(EndToEnd):
    def check(self, *args):
        return subprocess.run([IMPART, "check", "deck.toml", *map(str, args)], cwd=self.dir, capture_output=True,
                              text=True, timeout=SECONDS)

    def test_check_needs_no_mpi(self):
        self.assertEqual(self.check("--ranks", 8).returncode, 0)
        refused = self.check("--ranks", 3)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("1, 2, 4, 8", refused.stderr)
        small = self.check("--memory-per-rank", "10K")
        self.assertEqual(small.returncode, 2)
        self.assertIn("of memory per rank", small.stderr)
        self.assertFalse((self.dir / "runs").exists())

    def test_bench(self):
        for model in ("cnn", "deck.toml:net"):
            process = self.impart(2, "bench", "--model", model, "--batch", 16, "--steps", 3, "--threads", 1, "--json")
            self.assertEqual(process.returncode, 0, process.stderr_text)
            result = json.loads(process.stdout_text)
            self.assertEqual(list(result), ["model", "batch", "ranks", "tensor", "threads", "shards", "parameters",
                                            "samples_per_second", "step_ms", "forward_ms", "backward_ms",
                                            "communication_ms", "update_ms", "input_ms", "peak_rss_mb", "gflops",
                                            "peak_gflops", "share_of_peak"])
            self.assertEqual((result["batch"], result["ranks"]), (16, 2))
            self.assertGreater(result["samples_per_second"], 0)
        self.assertEqual(json.loads(self.impart(1, "bench", "--json", "--steps", 1).stdout_text)["parameters"], 93322)

    def test_predict(self):
        self.run_deck(1)
        for ranks in (1, 2):
            process = self.impart(ranks, "predict", "runs/t/teacher/model.h5", "--data", "deck.toml:tiny", "--output",
                                  f"out{ranks}.csv")
            self.assertEqual(process.returncode, 0, process.stderr_text)
        text = (self.dir / "out1.csv").read_text()
        self.assertEqual(text, (self.dir / "out2.csv").read_text())
        rows = text.splitlines()
        self.assertEqual(rows[0], "class,label,p0,p1,p2,p3")
        self.assertEqual(len(rows), 101)
        right = 0
        for i, row in enumerate(rows[1:]):
            predicted, label, *probabilities = map(float, row.split(","))
            self.assertAlmostEqual(sum(probabilities), 1, places=4)
            self.assertEqual(probabilities[int(predicted)], max(probabilities))
            self.assertEqual(label, i % 4)
            right += predicted == label
        self.assertGreater(right, 40)
        self.assertEqual(process.stdout_text,
                         f"out2.csv: 100 predictions for 100 samples of tiny, {right}.00% right\n")
        process = self.impart(2, "predict", "runs/t/teacher/model.h5", "--data", "deck.toml:tiny", "--output", "out.h5")
        self.assertEqual(process.returncode, 0, process.stderr_text)
        self.assertEqual((self.dir / "out.h5").read_bytes()[:4], b"\x89HDF")

    def test_predict_without_labels(self):
        self.run_deck(1)
        self.deck(DECK.replace('labels = "labels.gz"\n', ""), "new.toml")
        process = self.impart(2, "predict", "runs/t/teacher/model.h5", "--data", "new.toml:tiny", "--output", "out.csv")
        self.assertEqual(process.returncode, 0, process.stderr_text)
        self.assertEqual(process.stdout_text, "out.csv: 100 predictions for 100 samples of tiny\n")
        rows = (self.dir / "out.csv").read_text().splitlines()
        self.assertEqual((rows[0], len(rows)), ("class,p0,p1,p2,p3", 101))

    def test_output_is_called_by_its_name(self):
        (self.dir / "file").write_text("")
        process = self.impart(1, "run", "deck.toml", "--output", "file")
        self.assertEqual(process.returncode, 2)
        self.assertIn("--output file: run.output: file/t cannot be made", process.stderr_text)

    def test_a_model_keeps_its_normalisation(self):
        """The same samples through decks whose datasets have other statistics, or are not normalised at all."""
        self.run_deck(1)
        predict = ("predict", "runs/t/teacher/model.h5", "--output", "out.csv", "--data")
        process = self.impart(1, *predict, "deck.toml:tiny")
        self.assertEqual(process.returncode, 0, process.stderr_text)
        wanted = (self.dir / "out.csv").read_text()
        for settings in ("normalise = false", "limit = { train = 3 }",
                         "normalise = { mean = [0.9], std = [0.01] }"):
            self.deck(DECK.replace('format = "idx"', 'format = "idx"\n' + settings), "other.toml")
            process = self.impart(2, *predict, "other.toml:tiny")
            self.assertEqual(process.returncode, 0, process.stderr_text)
            self.assertEqual((self.dir / "out.csv").read_text(), wanted, settings)

    def test_merging_models_of_other_normalisation_warns(self):
        second = TRAIN.replace('"teacher"', '"second"').replace('dataset = "tiny"', 'dataset = "raw"')
        self.deck(DECK + """
[dataset.raw]
format = "idx"
images = "images.gz"
labels = "labels.gz"
classes = 4
split = { train = 0.8, validation = 0.2 }
normalise = false
""" + second + """
[[stage]]
name = "merged"
kind = "merge"
inputs = ["teacher", "second"]
""")
        process = self.run_deck(2)
        self.assertEqual(process.stderr_text.count("normalised in other ways"), 1, process.stderr_text)
        info = subprocess.run([IMPART_CKPT, "info", "--json", self.model("merged")], capture_output=True, text=True,
                              timeout=SECONDS)
        merged = json.loads(info.stdout)["model"]["spec"]["normalisation"]
        info = subprocess.run([IMPART_CKPT, "info", "--json", self.model()], capture_output=True, text=True,
                              timeout=SECONDS)
        first = json.loads(info.stdout)["model"]["spec"]["normalisation"]
        self.assertAlmostEqual(first["scale"], 1 / 255)
        self.assertAlmostEqual(merged["mean"][0], first["mean"][0] / 2)
        self.assertAlmostEqual(merged["deviation"][0], (first["deviation"][0] + 1) / 2)


class Recalibration(EndToEnd):
    def test_a_merge_takes_its_statistics_from_data(self):
        merge = '[[stage]]\nname = "{}"\nkind = "merge"\ninputs = ["teacher", "other"]\ndataset = "tiny"\n'
        deck = DECK + TRAIN.replace('"teacher"', '"other"\nseed = 9') + merge.format("mean")
        self.deck(deck + merge.format("fresh") + 'recalibrate = "tiny"\n')
        self.run_deck(2)
        mean, fresh = (self.stage(name)["metrics"]["validation.loss"] for name in ("mean", "fresh"))
        self.assertLess(fresh, 0.95 * mean)
        difference = subprocess.run([IMPART_CKPT, "diff", self.model("mean"), self.model("fresh"), "--json"],
                                    capture_output=True, text=True, timeout=SECONDS)
        self.assertEqual(difference.returncode, 1, difference.stderr)
        changed = {tensor["name"] for tensor in json.loads(difference.stdout)["tensors"] if tensor["status"] != "equal"}
        self.assertEqual(changed, {"bn1.running_mean", "bn1.running_var"})
        lineage = subprocess.run([IMPART_CKPT, "lineage", self.model("fresh"), "--json"], capture_output=True,
                                 text=True, timeout=SECONDS)
        self.assertEqual([data["name"] for data in json.loads(lineage.stdout)["data"]], ["tiny"])
        # Other statistics, another stage.
        self.deck(deck + merge.format("fresh"))
        self.run_deck(1)
        self.assertEqual((self.stage("mean")["status"], self.stage("fresh")["status"]), ("reused", "done"))
        self.assert_equal_models(self.model("mean"), self.model("fresh"))


TEXT = """
[run]
name = "t"

[dataset.text]
format = "text"
file = "text.txt"
context = 8
stride = 4
classes = 5
split = { train = 0.8, validation = 0.2 }

[model.net]
input = [8]
classes = 5
layers = [ { kind = "embedding", vocabulary = 5, width = 16 }, { kind = "dense", units = 5 } ]

[[stage]]
name = "teacher"
kind = "train"
model = "net"
dataset = "text"
epochs = 6
batch_size = 16
optimizer = { kind = "adam", learning_rate = 0.05 }
"""


class Text(EndToEnd):
    """A model of the next character, where each has one or two that can follow."""

    def setUp(self):
        super().setUp()
        self.write("text.txt", b"abc.abd." * 60)
        self.deck(TEXT)

    def test_learns_the_same_on_any_ranks(self):
        self.run_deck(1)
        self.run_deck(2, "--output", "two")
        self.assert_equal_models(self.model(), self.model(output="two"))
        # Only after "ab" it has to guess.
        self.assertGreater(self.stage("teacher")["metrics"]["validation.accuracy"], 0.85)
        info = subprocess.run([IMPART_CKPT, "info", self.model()], capture_output=True, text=True, timeout=SECONDS)
        self.assertIn("characters, 5 distinct ones", info.stdout)
        self.assertRegex(info.stdout, r"(?m)^made by .*HDF5 [0-9.]+, kernels chosen by the fixed rule$")

    def test_reads_a_text_of_fewer_characters(self):
        self.run_deck(2)
        self.write("other.txt", b"abd.abd.abd.abd.abd.")
        self.deck(TEXT.replace("text.txt", "other.txt").replace("classes = 5", "classes = 4", 1), "other.toml")
        process = self.impart(2, "predict", "runs/t/teacher/model.h5", "--data", "other.toml:text", "--output",
                              "out.csv")
        self.assertEqual(process.returncode, 0, process.stderr_text)
        rows = [row.split(",") for row in (self.dir / "out.csv").read_text().splitlines()[1:]]
        self.assertEqual(len(rows), 3 * 8)
        # In the model's vocabulary: "." is 0, "a" is 1 and so on.
        self.assertEqual([int(row[1]) for row in rows[:8]], [2, 4, 0, 1, 2, 4, 0, 1])
        self.assertTrue(all(row[0] == row[1] for row in rows if row[1] in "012"), rows)

    def test_refuses_characters_that_it_does_not_know(self):
        self.run_deck(2)
        self.write("other.txt", b"abx.abx.abx.abx.abx.")
        self.deck(TEXT.replace("text.txt", "other.txt").replace("classes = 5", "classes = 4", 1), "other.toml")
        process = self.impart(2, "predict", "runs/t/teacher/model.h5", "--data", "other.toml:text", "--output",
                              "out.csv")
        self.assertEqual(process.returncode, 1)
        self.assertIn("a character that the model's vocabulary does not have", process.stderr_text)

    def test_a_part_too_short_for_a_sample(self):
        self.deck(TEXT.replace("validation = 0.2", "validation = 0.01"))
        process = self.run_deck(2, code=1)
        self.assertIn("dataset.text: split.validation: the part has no samples", process.stderr_text)

    def test_does_not_go_on_with_other_characters(self):
        self.run_deck(2)
        self.write("text.txt", b"vwx.vwy." * 60)
        shutil.copy(self.model(), self.dir / "start.h5")
        deck = (self.dir / "deck.toml").read_text().replace('dataset = "text"', 'dataset = "text"\ninit = "start.h5"')
        self.deck(deck)
        process = self.run_deck(2, code=1)
        self.assertIn("start.h5: the model was trained on a text with other characters", process.stderr_text)


if __name__ == "__main__":
    unittest.main()
