"""The checkpoint: what it carries, what it refuses, and that it is written whole or not at all."""

import dataclasses
import io
import os
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_tensors

from planetlib import checkpoint as checkpoint_module
from planetlib.checkpoint import CHECKPOINT_FORMAT, Checkpoint, find_checkpoint, library_versions
from planetlib.files.tensors import CheckpointError, read_state, write_tensors
from planetlib.model import Network

WEIGHT, BIAS = torch.ones(5, 24 + 32 + 64), torch.zeros(5)  # of a detector


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(
        backbone="toy", head="reference", class_names=["Jupiter", "Rhéa", "Ve nus"], outlier_kinds=["sun", "texture"],
        image_size=96, fit="squash", state_dict=dict(Network("toy", 5, "reference").state_dict()), phase="finetune",
        epoch=4, metrics={"val_loss": 0.25, "val_accuracy": 0.875}, temperature=1.5,
        detector={"weight": WEIGHT, "bias": BIAS}, unknown_threshold=0.4, calibration={"log_loss_before": 0.5},
        recipe={"seed": 3, "image_size": None, "strength": 0.5}, data_fingerprint="0123456789abcdef",
    )  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


class Intruder:
    """Unpickled by anything but `weights_only=True`, it writes a file."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def refuses(path, *facts: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(path)
    assert [fact for fact in (str(path), *facts) if fact not in str(caught.value)] == []


# What comes back


def test_every_field_comes_back(checkpoint, path):
    checkpoint.save(path)
    loaded = Checkpoint.load(path)
    for field in dataclasses.fields(Checkpoint):
        mine, theirs = getattr(checkpoint, field.name), getattr(loaded, field.name)
        if field.name in ("state_dict", "detector"):
            assert set(theirs) == set(mine)
            assert all(torch.equal(theirs[name], value) for name, value in mine.items())
        else:
            assert theirs == mine, field.name
    assert loaded.versions == library_versions() and loaded.versions["torch"] == torch.__version__.split("+")[0]
    assert loaded.digest() == checkpoint.digest() != dataclasses.replace(checkpoint, epoch=5).digest()


def test_the_model_has_the_weights_and_is_ready_for_inference(checkpoint):
    model = checkpoint.build_model()
    assert all(torch.equal(value, checkpoint.state_dict[name]) for name, value in model.state_dict().items())
    assert not any(part.training for part in model.modules())


def test_equal_content_gives_equal_bytes_under_any_name(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.safetensors")
    turned = dict(reversed(checkpoint.state_dict.items()))
    dataclasses.replace(checkpoint, state_dict=turned).save(tmp_path / "another name")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "another name").read_bytes()


# What is refused


@pytest.mark.parametrize("read, name", [(Checkpoint.load, "a.safetensors"), (read_state, "a.pt")])
def test_a_strangers_file_runs_no_code(read, name, tmp_path):
    path, mark = tmp_path / name, tmp_path / "intruder was here"
    torch.save({"format": CHECKPOINT_FORMAT, "backbone": Intruder(mark)}, path)
    pickled = path.read_bytes()
    with pytest.raises(CheckpointError, match="damaged"):
        read(path)
    assert not mark.exists()
    torch.load(io.BytesIO(pickled), weights_only=False)["backbone"].close()
    assert mark.exists()  # so the file was a dangerous one


def test_a_missing_file_is_told_with_what_makes_it(path):
    refuses(path, "no such file", "planetlib train", "notebook 02")


HUGE = b'{"state_dict.w":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
OTHERS = {
    "text": b"epoch,loss\n1,0.5\n",
    "words of another program": save_tensors({"weight": torch.zeros(2)}, {"format": "pt"}),
    "a list": save_tensors({"weight": torch.zeros(2)}, {"planetlib": "[1]"}),
    "deep": save_tensors({"weight": torch.zeros(2)}, {"planetlib": "[" * 100_000}),
    "a long number": save_tensors({"weight": torch.zeros(2)}, {"planetlib": "1" * 5000}),
    "a tensor that claims more than the file holds": len(HUGE).to_bytes(8, "little") + HUGE + bytes(64),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_kind_of_file_is_no_checkpoint(name, path):
    path.write_bytes(OTHERS[name])
    refuses(path, "damaged or not a checkpoint (", "train")


def test_a_truncated_checkpoint_is_told(checkpoint, path):
    checkpoint.save(path)
    os.truncate(path, path.stat().st_size // 2)
    refuses(path, "damaged or not a checkpoint (")


def test_a_changed_bit_is_told_wherever_it_is(checkpoint, path):
    checkpoint.save(path)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(8, len(whole), 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refuses(path)


def test_another_format_is_refused(checkpoint, path, monkeypatch):
    for number, fact in ((CHECKPOINT_FORMAT + 1, "newer planetlib: install"), (CHECKPOINT_FORMAT - 1, "not a check")):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_module, "CHECKPOINT_FORMAT", number)
            checkpoint.save(path)
        refuses(path, fact, f"{CHECKPOINT_FORMAT}")


@pytest.mark.parametrize("spoil", [
    lambda words, tensors: words.pop("temperature"),
    lambda words, tensors: words.update(unheard_of={}),
    lambda words, tensors: words.update(detector={}),
    lambda words, tensors: tensors.update({"class_names.a": torch.zeros(2)}),
], ids=["missing", "added", "word for a tensor", "tensor for a word"])  # fmt: skip
def test_other_entries_than_those_of_a_checkpoint_are_refused(spoil, checkpoint, path):
    tensors, words = checkpoint._parts()
    spoil(words, tensors)
    write_tensors(tensors, words, path, CHECKPOINT_FORMAT)
    refuses(path, "other entries")


TAMPERED = [
    ("backbone", "vgg16", "one of ['efficientnet_b3', 'efficientnet_lite0'"),
    ("head", "wide", "one of ['linear', 'reference']"),
    ("fit", "stretch", "pad or squash"),
    ("phase", "tail", "one of"),
    ("class_names", ["a", "b", "a"], "none twice"),
    ("class_names", ["a", 1, "b"], "list[str]"),
    ("class_names", ["a"], "2 to 10000"),
    ("outlier_kinds", ["sun", "Jupiter"], "none twice"),
    ("outlier_kinds", [str(number) for number in range(10_000)], "2 to 10000"),
    ("image_size", 1_000_000_000, "32 to 4096"),
    ("image_size", 224.0, "int"),
    ("epoch", -1, "0 or more"),
    ("temperature", 0.0, "above 0"),
    ("unknown_threshold", float("inf"), "float"),
    ("unknown_threshold", 10**400, "float"),
    ("metrics", {"val_loss": "low"}, "dict[str, float]"),
    ("calibration", [0.5], "dict[str, float]"),
    ("recipe", {"seed": "0"}, "the seed a whole number"),
    ("recipe", {"test_share": "half"}, "test_share a number"),
]


@pytest.mark.parametrize("name, value, expected", TAMPERED, ids=[name for name, *_ in TAMPERED])
def test_a_tampered_entry_is_refused_before_use(name, value, expected, checkpoint, path):
    dataclasses.replace(checkpoint, **{name: value}).save(path)
    refuses(path, " is ", "; expected ", expected, "train one anew")


@pytest.mark.parametrize("change, told", [
    ({"backbone": "efficientnet_lite0"}, "Missing"),
    ({"head": "linear"}, "head 'linear'"),
    ({"class_names": ["a", "b"]}, "4 outputs"),
    ({"detector": {"weight": WEIGHT[:, :7], "bias": BIAS}}, r"weight: .*\[5, 7\].*\[5, 120\]"),
    ({"detector": {"weight": WEIGHT}}, 'Missing .*"bias"'),
])  # fmt: skip
def test_tensors_of_another_network_are_refused_before_use(change, told, checkpoint):
    with pytest.raises(CheckpointError, match=f"{told}.*train one anew") as caught:
        dataclasses.replace(checkpoint, **change).build_model()
    assert "expected those of '" in str(caught.value) and len(str(caught.value)) < 700


@pytest.mark.parametrize("value", [BIAS.double(), BIAS / 0], ids=["double", "not a number"])
def test_numbers_that_no_training_makes_are_refused(value, checkpoint, path):
    dataclasses.replace(checkpoint, detector={"weight": WEIGHT, "bias": value}).save(path)
    refuses(path, "'detector.bias' is torch.", "expected torch.float32, all of it finite")


# Files


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"a line that begins as a pickle could\n"])
def test_a_damaged_state_is_told_with_what_to_do(content, tmp_path):
    (tmp_path / "head_state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged.*--overwrite"):
        read_state(tmp_path / "head_state.pt")


def test_the_finetuned_checkpoint_is_preferred_and_where_there_is_none_it_is_told_what_makes_one(tmp_path):
    head, finetune = tmp_path / "head.safetensors", tmp_path / "finetune.safetensors"
    (tmp_path / "head_state.pt").touch()
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=re.escape(f"planetlib train --run {place}")):
            find_checkpoint(place)
    head.touch()
    assert find_checkpoint(tmp_path) == head
    finetune.touch()
    assert find_checkpoint(str(tmp_path)) == finetune and find_checkpoint(head) == head
