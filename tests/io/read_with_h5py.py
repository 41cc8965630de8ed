"""Reads a checkpoint with h5py and with HDF5's tools: what we write is not for us alone."""

import json
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def check(path, digest):
    with h5py.File(path, "r") as file:
        assert text(file.attrs["format"]) == "impart-checkpoint"
        assert file.attrs["version"] == 1
        assert text(file.attrs["digest"]) == digest

        weight = file["/parameters/conv1.weight"]
        assert weight.dtype == numpy.dtype("<f4") and weight.shape == (4, 1, 3, 3)
        first = 1 + len("conv1.weight")
        assert numpy.array_equal(weight[...].ravel(), first + 0.25 * numpy.arange(1, 37))
        assert file["/buffers/bn1.count"].shape == ()
        assert sorted(file["/parameters"]) == ["conv1.bias", "conv1.weight", "fc.weight"]
        assert sorted(file["/optimizer"]) == ["exp_avg", "exp_avg_sq"]

        assert len(json.loads(text(file["/model/spec"][()]))["note"]) == 200_000
        assert list(file["/model"].attrs["input_shape"]) == [1, 28, 28]
        assert json.loads(text(file["/lineage"].attrs["stage"]))["name"] == "teacher"
        assert file["/progress"].attrs["seed"] == 2**64 - 2
        assert file["/progress/extra"].attrs["best"] == 0.975

        parents = file["/lineage/parents"][...]
        assert parents["path"][1].decode() == "../größer/model.h5"
        assert list(parents["weight"]) == [0.5, 0.25]
        assert file["/lineage/data"][0]["samples"] == 8000
        points = file["/metrics/validation.accuracy"][...]
        assert list(points["step"]) == [100, 200] and list(points["value"]) == [0.5, 0.75]
        assert file["/metrics/train.loss"].shape == (0,)


def check_tools(path):
    listing = subprocess.run(["h5ls", "-r", path], check=True, capture_output=True, text=True).stdout
    assert "/parameters/conv1.weight Dataset {4, 1, 3, 3}" in listing, listing
    subprocess.run(["h5dump", "-H", path], check=True, capture_output=True)
    dump = subprocess.run(["h5dump", "-d", "/lineage/parents", path], check=True, capture_output=True, text=True).stdout
    assert '"member' in dump, dump


def main():
    with tempfile.TemporaryDirectory() as directory:
        path = str(pathlib.Path(directory) / "model.h5")
        written = subprocess.run([sys.argv[1], path], check=True, capture_output=True, text=True)
        check(path, written.stdout.strip())
        check_tools(path)


main()
