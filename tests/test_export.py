"""A run as an ONNX file: ONNX Runtime predicts what the library predicts."""

import builtins
import json
import sys

import numpy as np
import pytest
import torch

from planetlib import PlanetlibError
from planetlib.batch.export import export_checkpoint
from planetlib.checkpoint import Checkpoint
from planetlib.classify import Classifier
from planetlib.images import read_image
from planetlib.model import Network

TOLERANCE = 1e-4  # of probabilities


@pytest.fixture(scope="module")
def classifier(trained_run) -> Classifier:
    return Classifier.load(trained_run.run, device="cpu")


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    pytest.importorskip("onnxscript")
    return export_checkpoint(classifier.checkpoint, tmp_path_factory.mktemp("onnx") / "new" / "model.onnx")


def start_session(path):
    return pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("count", [1, 5])
def test_onnx_runtime_predicts_what_the_library_predicts(count, exported, classifier, samples):
    images = torch.stack([classifier.prepare(read_image(path)) for path in samples.path[::4][:count]])
    probabilities, unknown = start_session(exported).run(None, {"images": images.numpy()})
    expected, score = classifier.score_tensors(images)
    assert classifier.checkpoint.temperature != 1 and classifier.checkpoint.detector
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(unknown, score, rtol=0, atol=TOLERANCE)


def test_the_file_says_what_is_needed_to_use_it(exported, classifier):
    session = start_session(exported)
    (taken,), given = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("images", "tensor(uint8)", [3, 64, 64])
    assert [output.name for output in given] == ["probabilities", "unknown_score"]
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == classifier.class_names
    assert (facts["image_size"], facts["fit"]) == ("64", "pad")
    assert float(facts["unknown_threshold"]) == classifier.checkpoint.unknown_threshold
    assert [path.name for path in exported.parent.iterdir()] == ["model.onnx"]


def test_an_ensemble_that_was_never_calibrated_can_be_exported(tmp_path):
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    weights = Network("ensemble", 3, weights="random").state_dict()
    classifier = Classifier(
        Checkpoint("ensemble", "linear", ["a", "b", "c"], 64, "pad", dict(weights)), "cpu", "float32"
    )
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    path = export_checkpoint(classifier.checkpoint, tmp_path / "model.onnx")
    probabilities, unknown = start_session(path).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(probabilities, classifier.predict_tensors(images), rtol=0, atol=TOLERANCE)
    assert np.isnan(unknown).all()


def test_another_format_is_told(classifier, tmp_path):
    with pytest.raises(PlanetlibError, match="unknown format 'tflite'; expected one of: onnx"):
        export_checkpoint(classifier.checkpoint, tmp_path / "m", "tflite")


def test_where_the_extra_is_missing_the_way_on_is_told(classifier, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        PlanetlibError, match=r"cannot export \(No module named 'onnx'\): pip install 'planetlib\[onnx\]'"
    ):
        export_checkpoint(classifier.checkpoint, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
