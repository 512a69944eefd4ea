"""A run as an ONNX file: ONNX Runtime predicts what the library predicts."""

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


def start_session(checkpoint: Checkpoint, folder):
    pytest.importorskip("onnxscript")
    path = export_checkpoint(checkpoint, folder / "new" / "model.onnx")
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]
    return pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])


def test_onnx_runtime_predicts_what_the_library_predicts_and_is_told_what_it_needs(classifier, samples, tmp_path):
    session = start_session(classifier.checkpoint, tmp_path)
    assert classifier.checkpoint.temperature != 1 and classifier.checkpoint.detector
    for count in (1, 5):
        images = torch.stack([classifier.prepare(read_image(path)) for path in samples.path[::4][:count]])
        found = session.run(["probabilities", "unknown_score"], {"images": images.numpy()})
        for one, expected in zip(found, classifier.score_tensors(images), strict=True):
            np.testing.assert_allclose(one, expected, rtol=0, atol=1e-4)
    (taken,) = session.get_inputs()
    assert (taken.type, taken.shape[1:]) == ("tensor(uint8)", [3, 64, 64])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == classifier.class_names
    assert (facts["image_size"], facts["fit"], facts["backbone"]) == ("64", "pad", "toy")
    assert float(facts["unknown_threshold"]) == classifier.checkpoint.unknown_threshold


@pytest.mark.soak
def test_a_real_backbone_that_was_never_calibrated_can_be_exported(amount, tmp_path):
    torch.manual_seed(0)
    backbone = amount("efficientnet_lite0", "ensemble")
    weights = Network(backbone, 3, weights="random").state_dict()
    checkpoint = Checkpoint(backbone, "linear", ["a", "b", "c"], 64, "pad", dict(weights))
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    probabilities, unknown = start_session(checkpoint, tmp_path).run(None, {"images": images.numpy()})
    expected = Classifier(checkpoint, "cpu", "float32").predict_tensors(images)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-4)
    assert np.isnan(unknown).all()


def test_without_onnx_it_is_told_what_to_install(classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PlanetlibError, match=r"pip install 'planetlib\[onnx\]'"):
        export_checkpoint(classifier.checkpoint, tmp_path / "new" / "model")
    assert list(tmp_path.iterdir()) == []
