import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from yolo_jax import cli
from yolo_jax.export.stablehlo import open_exported
from yolo_jax.networks.darknet import save_weights
from yolo_jax.networks.yolov3 import create_network
from yolo_jax.use.opening import open_network


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Returns a weights file of YOLOv3-tiny on 80 classes."""
    path = tmp_path_factory.mktemp("weights") / "own.weights"
    save_weights(path, create_network("tiny", 80, seed=3))
    return str(path)


def test_a_file_of_stablehlo(weights, tmp_path, capsys):
    out = tmp_path / "own.stablehlo"
    command = ["export", weights, "--format", "stablehlo", "--out", str(out), "--size", "64"]
    options = ["--batch", "any", "--nms", "--conf", "0.3", "--platforms", "cpu", "tpu"]
    assert cli.main([*command, *options]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    exported = open_exported(out)
    assert exported.platforms == ("cpu", "tpu")
    assert exported.metadata["score_threshold"] == 0.3
    assert exported.metadata["iou_threshold"] == 0.45
    assert exported(np.zeros((2, 64, 64, 3), np.uint8)).classes.shape == (2, 100)


def test_darknets_weights_with_cfg_and_names(weights, tmp_path):
    out = tmp_path / "again.weights"
    assert cli.main(["export", weights, "--format", "darknet", "--out", str(out)]) == 0
    cfg, names = out.with_suffix(".cfg"), out.with_suffix(".names")
    assert sorted(tmp_path.iterdir()) == [cfg, names, out]
    own, read = open_network(weights), open_network(out, cfg=cfg, names=names)
    assert read[1:] == own[1:]
    for one, other in zip(own.network.convolutions(), read.network.convolutions(), strict=True):
        for part, copy in zip(one.darknet_parts(), other.darknet_parts(), strict=True):
            np.testing.assert_array_equal(part[...], copy[...])


def test_darknets_files_of_a_network_that_came_with_a_cfg(weights, golden, tmp_path):
    out, cfg = tmp_path / "again.weights", str(golden / "cfg" / "yolov3-tiny.cfg")
    command = ["export", weights, "--cfg", cfg, "--format", "darknet", "--out", str(out)]
    assert cli.main(command) == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["again.names", "again.weights"]
    assert out.read_bytes() == Path(weights).read_bytes()


@pytest.mark.parametrize("suffix", [".names", ".cfg"])
def test_darknets_weights_are_not_named_as_what_goes_beside_them(weights, tmp_path, capsys, suffix):
    out = tmp_path / f"a{suffix}"
    assert cli.main(["export", weights, "--format", "darknet", "--out", str(out)]) == 2
    assert f"name it {tmp_path / 'a.weights'}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stablehlo", "--size", "100"], "the input's size is a multiple of 32 px; found 100"),
        (["stablehlo", "--batch", "0"], "the batch is a whole number, 1 or more; found 0"),
        (["stablehlo", "--conf", "0.5"], "--conf and --iou go with --nms"),
        (["stablehlo", "--nms", "--iou", "2"], "the IoU threshold is a finite number from 0 to 1"),
        (["stablehlo", "--opset", "18"], "--opset goes with --format onnx, not stablehlo"),
        (["onnx", "--opset", "99"], "the ONNX opset is 99; supported are 18 to 23"),
        (["onnx", "--platforms", "cpu"], "--platforms goes with --format stablehlo, not onnx"),
        (["darknet", "--nms"], "--nms goes with --format stablehlo or onnx or tf, not darknet"),
        (["darknet", "--size", "64"], "--size goes with --format"),
    ],
)
def test_bad_words(weights, tmp_path, capsys, words, message):
    out = tmp_path / "out"
    assert cli.main(["export", weights, "--out", str(out), "--format", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["stablehlo", "onnx", "darknet"])
def test_an_out_that_is_a_folder(weights, tmp_path, capsys, kind):
    if kind == "onnx" and importlib.util.find_spec("jax2onnx") is None:
        pytest.skip("jax2onnx is not installed")
    assert cli.main(["export", weights, "--format", kind, "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} is a" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "module"), [("onnx", "onnx"), ("tf", "tensorflow")])
def test_what_is_not_installed_is_named(weights, tmp_path, capsys, monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not
    assert cli.main(["export", weights, "--format", kind, "--out", str(tmp_path / "a")]) == 2
    assert f"needs {module}: pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "coreml"], "--format: invalid choice: 'coreml'"),
        ([], "required: --format"),
        (["--format", "tf", "--batch", "x"], "--batch: a whole number or any; found 'x'"),
    ],
)
def test_formats_and_batches_that_there_are_not(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", "a.weights", "--out", "b", *words])
    assert message in capsys.readouterr().err
