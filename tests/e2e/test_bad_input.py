"""Bad input: one clear line, the right exit code, no hang, at 1 and 2 ranks."""

import gzip
import os
import shutil
import subprocess
import unittest

from harness import (CLASSES, DATASET, DECK, IMPART, MODEL, MPIEXEC, RUN, SECONDS, TRAIN, EndToEnd, idx_images,
                     idx_labels, samples)

# After an exit code that is not 0, Open MPI's mpirun waits a second for ranks that have ended already.
os.environ["OMPI_MCA_odls_base_sigkill_timeout"] = "0"


class BadDeck(EndToEnd):
    def test_unknown_key(self):
        self.deck(DECK.replace("learning_rate", "learning_rte"))
        self.assert_refused(2, "deck.toml:", "stage.teacher.optimizer: unknown key 'learning_rte'",
                            "did you mean 'learning_rate'?")

    def test_wrong_type(self):
        self.deck(DECK.replace("epochs = 2", 'epochs = "two"'))
        self.assert_refused(2, "stage.teacher.epochs: expected an integer, got the string \"two\"")

    def test_value_out_of_range(self):
        self.deck(DECK.replace("momentum = 0.9", "momentum = 1.5"))
        self.assert_refused(2, "stage.teacher.optimizer.momentum: expected at least 0 and below 1, got 1.5")

    def test_not_toml(self):
        self.deck("[run\n")
        self.assert_refused(2, "deck.toml:1: not TOML")

    def test_no_deck(self):
        self.assert_refused(2, "no-such.toml: there is no such file", deck="no-such.toml")

    def test_two_stages_with_one_name(self):
        self.deck(DECK + TRAIN)
        self.assert_refused(2, "two stages are called 'teacher'")

    def test_a_stage_that_names_a_later_one(self):
        fine = TRAIN.replace('"teacher"', '"first"').replace("epochs", 'init = "teacher"\nepochs')
        self.deck(RUN + DATASET + MODEL + fine + TRAIN)
        self.assert_refused(2, "stage.first.init: stage 'teacher' does not come before this one")

    def test_layers_that_do_not_fit(self):
        self.deck(DECK.replace("kernel = 3", "kernel = 30"))
        self.assert_refused(2, "model.net", "conv1")

    def test_model_that_does_not_take_the_samples(self):
        self.deck(DECK.replace("[1, 8, 8]", "[1, 9, 9]"))
        self.assert_refused(2, "the model takes samples of 1x9x9, dataset 'tiny' has 1x8x8")

    def test_batch_that_the_shards_do_not_divide(self):
        self.deck(DECK.replace("batch_size = 16", "batch_size = 20"))
        self.assert_refused(2, "stage.teacher.batch_size: expected a multiple of the 8 shards (run.shards), got 20")

    def test_cyclic_order_with_a_global_batch(self):
        self.deck(DECK.replace("epochs = 2", 'order = "cyclic"'))
        self.assert_refused(2, "deck.toml:", "stage.teacher.batch_size: is a batch of all ranks together",
                            "give `local_batch_size`")

    def test_local_steps_of_several_batches(self):
        self.deck(DECK.replace("epochs = 2", "local_steps = 2\naccumulate = 2"))
        self.assert_refused(2, "stage.teacher.local_steps: every local step is an update")

    def test_ranks_that_do_not_fit(self):
        self.assert_refused(2, "3", "1, 2, 4, 8", ranks=(3,))

    def test_several_at_once(self):
        self.deck(DECK.replace("epochs = 2", "epochs = 0").replace('dataset = "tiny"', 'dataset = "tinny"'))
        self.assert_refused(2, "stage.teacher.epochs: expected at least 1", "did you mean 'tiny'?", lines=2)

    def test_output_that_cannot_be_made(self):
        self.write("file", "in the way")
        self.assert_refused(2, "run.output", "is not a directory", args=("--output", "file"))

    def test_unknown_command_and_option(self):
        for ranks in (1, 2):
            for args, wanted in ((("rum",), "did you mean 'run'?"), (("run", "deck.toml", "--frsh"), "--frsh")):
                process = self.impart(ranks, *args)
                self.assertEqual(process.returncode, 2, process.stderr_text)
                self.assertEqual(process.stderr_text.count("error: "), 1, process.stderr_text)
                self.assertIn(wanted, process.stderr_text)


class BadData(EndToEnd):
    def csv(self, text):
        self.write("data.csv", text)
        self.deck(RUN + """
[dataset.tiny]
format = "csv"
file = "data.csv"
classes = 4
""" + """
[model.net]
input = [3]
classes = 4
layers = [{ kind = "dense", units = 4 }]
""" + TRAIN)

    def test_missing_file(self):
        (self.dir / "labels.gz").unlink()
        self.assert_refused(2, "dataset.tiny", "labels.gz")

    def test_truncated_gzip(self):
        path = self.dir / "images.gz"
        path.write_bytes(path.read_bytes()[:-900])
        self.refused_data("images.gz")

    def test_truncated_idx(self):
        images, _ = samples()
        self.write("images.gz", idx_images(images)[:-10])
        self.refused_data("images.gz")

    def test_oversized_idx(self):
        images, _ = samples()
        self.write("images.gz", idx_images(images) + b"more")
        self.refused_data("images.gz")

    def test_oversized_idx_in_gzip(self):
        images, _ = samples()
        self.write_gz("images.gz", idx_images(images) + b"more")
        self.refused_data("images.gz")

    def test_gzip_with_garbage_behind(self):
        path = self.dir / "images.gz"
        path.write_bytes(path.read_bytes() + gzip.compress(b"x" * 100)[:30])
        self.refused_data("images.gz")

    def test_label_outside_the_classes(self):
        _, labels = samples()
        labels[17] = CLASSES
        self.write_gz("labels.gz", idx_labels(labels))
        self.refused_data("0 to 3")

    def test_csv_row_with_too_few_fields(self):
        self.csv("1,2,3,0\n" * 20 + "1,2,0\n" + "1,2,3,1\n" * 20)
        self.refused_data("data.csv", "21")

    def test_csv_with_text_for_a_number(self):
        self.csv("1,2,3,0\n" * 20 + "1,two,3,0\n" + "1,2,3,1\n" * 20)
        self.refused_data("data.csv", "two")

    def refused_data(self, *wanted):
        """Whether the header shows it (exit code 2) or the reading does (1): one line, nothing trained."""
        for ranks in (1, 2):
            process = self.impart(ranks, "run", "deck.toml", "--progress", "none")
            self.assertIn(process.returncode, (1, 2), process.stderr_text)
            errors = [line for line in process.stderr_text.splitlines()
                      if "error: " in line and not line.endswith("nothing was started")]
            self.assertEqual(len(errors), 1, process.stderr_text)
            for text in wanted:
                self.assertIn(text, errors[0])
            self.assertFalse(self.model().exists())


class BadCheckpoint(EndToEnd):
    def setUp(self):
        super().setUp()
        self.run_deck(1)
        shutil.copy(self.model(), self.dir / "start.h5")
        shutil.rmtree(self.dir / "runs")

    def test_another_architecture(self):
        self.deck(DECK.replace("filters = 4", "filters = 5").replace("epochs", 'init = "start.h5"\nepochs'))
        self.assert_refused(2, "stage.teacher.init", "another architecture", "conv1.weight")

    def test_corrupted(self):
        path = self.dir / "start.h5"
        data = bytearray(path.read_bytes())
        for offset in range(len(data) // 2, len(data) // 2 + 64):
            data[offset] ^= 0xFF
        path.write_bytes(data)
        self.deck(DECK.replace("epochs", 'init = "start.h5"\nepochs'))
        self.assert_refused(2, "stage.teacher.init", "start.h5")

    def test_truncated(self):
        path = self.dir / "start.h5"
        path.write_bytes(path.read_bytes()[:-1000])
        self.deck(DECK.replace("epochs", 'init = "start.h5"\nepochs'))
        self.assert_refused(2, "stage.teacher.init", "start.h5")

    def test_missing(self):
        self.deck(DECK.replace("epochs", 'init = "none.h5"\nepochs'))
        self.assert_refused(2, "stage.teacher.init", "none.h5")


class LimitedFiles(EndToEnd):
    def test_a_checkpoint_larger_than_the_process_may_write(self):
        self.deck(DECK.replace("filters = 4", "filters = 512"))
        command = f"ulimit -f 64; exec '{IMPART}' run deck.toml --progress none"
        process = subprocess.run([MPIEXEC, "-n", "1", "sh", "-c", command], cwd=self.dir, text=True,
                                 capture_output=True, timeout=SECONDS)
        errors = [line for line in process.stderr.splitlines() if "error: " in line]
        self.assertEqual(process.returncode, 1, process.stderr)
        self.assertIn("cannot be written: got File too large", "\n".join(errors))
        self.assertEqual(len(errors), 1, process.stderr)
        self.assertFalse(list(self.dir.glob("runs/**/.*.tmp")), "a temporary file was left")


class NotFinite(EndToEnd):
    # Without the batch norm, which would divide by the overflow.
    BAD = DECK.replace("learning_rate = 0.05", "learning_rate = 1e30").replace('{ kind = "batch_norm" }, ', "")

    def test_loss(self):
        self.assert_told(self.BAD)

    def test_loss_of_local_steps(self):
        self.assert_told(self.BAD.replace("epochs = 2", "epochs = 2\nlocal_steps = 3"))

    def test_loss_in_a_visit(self):
        """One rank fails while the others wait for it."""
        self.assert_told(self.BAD.replace("epochs = 2", 'order = "cyclic"\nepochs = 2\nlocal_epochs = 2')
                         .replace("batch_size = 16", "local_batch_size = 8"))

    def assert_told(self, deck):
        self.deck(deck)
        for ranks in (1, 2):
            process = self.run_deck(ranks, code=1)
            errors = [line for line in process.stderr_text.splitlines() if "error: " in line]
            self.assertEqual(len(errors), 1, process.stderr_text)
            for text in ("stage teacher", "step ", "layer '"):
                self.assertIn(text, errors[0])
            stage = self.stage("teacher")
            self.assertEqual(stage["status"], "failed")
            self.assertIn("step ", stage["error"])
            self.assertFalse(self.model().exists())


class Singular(EndToEnd):
    def test_the_columns_are_named(self):
        line = MODEL.replace("model.net", "model.line").split("layers")[0] + """
layers = [{ kind = "flatten" }, { kind = "dense", units = 4 }]
"""
        stage = TRAIN.replace('"net"', '"line"').split("epochs")[0] + """
train_part = { index = 0, of = 2 }
optimizer = { kind = "least_squares" }
"""
        self.deck(RUN + DATASET + line + stage)
        self.assert_refused(1, "the columns of the", "depends on", "give the optimizer a ridge above 0")


if __name__ == "__main__":
    unittest.main()
