"""The checkpoint: what it carries, what it refuses, and that it is written whole or not at all."""

import dataclasses
import errno
import os
import re
import zipfile

import pytest
import torch

from planetlib.checkpoint import (
    CHECKPOINT_FORMAT,
    Checkpoint,
    CheckpointError,
    find_checkpoint,
    library_versions,
    read_torch,
    write_torch,
)
from planetlib.model import Network


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(
        backbone="efficientnet_lite0",
        head="reference",
        class_names=["Jupiter", "Rhéa", "Ve nus"],
        outlier_kinds=["sun", "texture"],
        image_size=96,
        fit="squash",
        state_dict=dict(Network("efficientnet_lite0", 5, "reference", "random").state_dict()),
        stage="finetune",
        epoch=4,
        metrics={"val_loss": 0.25, "val_accuracy": 0.875},
        temperature=1.5,
        detector={"weight": torch.ones(5, 1792), "bias": torch.zeros(5)},
        unknown_threshold=0.4,
        calibration={"log_loss_before": 0.5},
        recipe={"seed": 3, "image_size": None, "strength": 0.5},
        data_fingerprint="0123456789abcdef",
    )


class Intruder:
    """Unpickled by anything but `weights_only=True`, it writes a file."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def test_every_field_comes_back(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "deep" / "er" / "a.pt")
    loaded = Checkpoint.load(tmp_path / "deep" / "er" / "a.pt")
    for field in dataclasses.fields(Checkpoint):
        mine, theirs = getattr(checkpoint, field.name), getattr(loaded, field.name)
        if field.name in ("state_dict", "detector"):
            assert list(theirs) == list(mine)
            assert all(torch.equal(theirs[name], value) for name, value in mine.items())
        else:
            assert theirs == mine, field.name
    assert loaded.versions == library_versions() and loaded.versions["torch"] == torch.__version__.split("+")[0]


def test_the_model_has_the_weights_and_is_ready_for_inference(checkpoint):
    model = checkpoint.build_model()
    assert all(torch.equal(value, checkpoint.state_dict[name]) for name, value in model.state_dict().items())
    assert not any(part.training for part in model.modules())


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "intruder was here"
    torch.save({"format": CHECKPOINT_FORMAT, "backbone": Intruder(mark)}, tmp_path / "evil.pt")
    with pytest.raises(
        CheckpointError, match=r"it carries code, \w*io.open, which was not run\); expected numbers and"
    ):
        Checkpoint.load(tmp_path / "evil.pt")
    assert not mark.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)["backbone"].close()
    assert mark.exists()  # so the file was a dangerous one


def test_a_missing_file_is_told_with_what_makes_it(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(tmp_path / "a.pt")
    assert str(caught.value) == f"{tmp_path / 'a.pt'}: no such file; 'planetlib train' or notebook 02 makes it"


TEXTS = [b"", b"epoch,loss\n1,0.5\n", b"a line that begins as a pickle could\n", b"PK\x03\x04", b"\x80\x02}q\x00."]


@pytest.mark.parametrize("content", TEXTS)
def test_another_kind_of_file_is_no_checkpoint(content, tmp_path):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / 'a.pt'}: damaged or not a checkpoint (") + r"\w"):
        Checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_told(share, checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.pt")
    os.truncate(tmp_path / "a.pt", int((tmp_path / "a.pt").stat().st_size * share))
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        Checkpoint.load(tmp_path / "a.pt")


def test_a_single_changed_weight_is_told(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    weights = checkpoint.state_dict["head.0.weight"].numpy().tobytes()
    content[content.index(weights[:64])] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="the checksum of .* differs"):
        Checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "content",
    [
        {"weight": torch.zeros(2)},
        [1, 2],
        {"format": CHECKPOINT_FORMAT},
        {"format": CHECKPOINT_FORMAT, "backbone": "resnet50", "unheard_of": 0},
    ],
    ids=["state dict", "list", "format alone", "other entries"],
)
def test_a_torch_file_of_another_format_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(
        CheckpointError, match=f"not a planetlib checkpoint of format {CHECKPOINT_FORMAT}; train one anew"
    ):
        Checkpoint.load(tmp_path / "a.pt")


def test_another_version_of_the_format_is_refused(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.pt")
    write_torch(read_torch(tmp_path / "a.pt") | {"format": CHECKPOINT_FORMAT + 1}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="got format 3, expected 2: it is of a newer planetlib; install that"):
        Checkpoint.load(tmp_path / "b.pt")
    write_torch(read_torch(tmp_path / "a.pt") | {"format": CHECKPOINT_FORMAT - 1}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=f"not a planetlib checkpoint of format {CHECKPOINT_FORMAT}"):
        Checkpoint.load(tmp_path / "b.pt")


TAMPERED = [
    ("backbone", "vgg16", "'vgg16'; expected one of \\['efficientnet_lite0'"),
    ("backbone", ["resnet50"], "expected one of"),
    ("head", "wide", "'wide'; expected one of \\['linear', 'reference'\\]"),
    ("fit", "stretch", "'stretch'; expected one of \\['pad', 'squash'\\]"),
    ("stage", "tail", "'tail'; expected one of"),
    ("class_names", ["a", "b", "a"], "expected two or more different names"),
    ("class_names", ["a", 1, "b"], "expected two or more different names"),
    ("class_names", "abc", "expected two or more different names"),
    ("class_names", ["a"], "expected two or more different names"),
    ("class_names", [str(number) for number in range(10_001)], "expected two or more different names"),
    ("outlier_kinds", ["sun", "Jupiter"], "expected different names that are none of a class"),
    ("outlier_kinds", [None], "expected different names that are none of a class"),
    ("outlier_kinds", [str(number) for number in range(10_001)], "expected different names"),
    ("image_size", 1_000_000_000, "1000000000; expected 32 to 4096"),
    ("image_size", -224, "-224; expected 32 to 4096"),
    ("image_size", 224.0, "224.0; expected 32 to 4096"),
    ("epoch", -1, "-1; expected a whole number"),
    ("temperature", 0.0, "0.0; expected a number above 0"),
    ("temperature", float("nan"), "nan; expected a number above 0"),
    ("temperature", "1", "'1'; expected a number above 0"),
    ("unknown_threshold", float("inf"), "inf; expected a number"),
    ("metrics", {"val_loss": "low"}, "expected numbers by name"),
    ("calibration", [0.5], "expected numbers by name"),
    ("recipe", {"seed": "0"}, "expected choices by name, the seed a whole number"),
    ("recipe", {0: 0}, "expected choices by name"),
    ("data_fingerprint", 5, "5; expected a word"),
    ("versions", {"torch": 2}, "expected versions by name"),
    ("state_dict", {"weight": [1.0]}, "expected tensors by name"),
    ("detector", None, "None; expected tensors by name"),
]


@pytest.mark.parametrize("name, value, expected", TAMPERED)
def test_a_tampered_entry_is_refused_before_use(name, value, expected, checkpoint, tmp_path):
    dataclasses.replace(checkpoint, **{name: value}).save(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f"a.pt: {name} is .*{expected}.*; train one anew$"):
        Checkpoint.load(tmp_path / "a.pt")


WEIGHT, BIAS = "head.0.weight", "head.0.bias"


@pytest.mark.parametrize(
    "change, told",
    [
        ({BIAS: None}, r"got \d+ tensors, expected the \d+ of 'efficientnet_lite0' .*; not in both: .*head.0.bias"),
        ({"head.9.bias": torch.zeros(2)}, r"got \d+ tensors, expected the \d+ .*; not in both: .*head.9.bias"),
        ({BIAS: torch.zeros(7)}, r"'head.0.bias' is \(7,\) torch.float32; expected \(1024,\) torch.float32"),
        ({WEIGHT: torch.zeros(1).expand(10**6, 10**6)}, r"is \(1000000, 1000000\) torch.float32; expected \(1024,"),
        ({BIAS: torch.zeros(1024).double()}, r"is \(1024,\) torch.float64; expected \(1024,\) torch.float32"),
        ({BIAS: torch.zeros(1024).to_sparse()}, "'head.0.bias' is "),
        ({BIAS: torch.full((1024,), torch.nan)}, "'head.0.bias' is not finite; expected numbers"),
    ],
    ids=["missing", "added", "shape", "claimed size", "type", "layout", "not a number"],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_before_use(change, told, checkpoint, tmp_path):
    weights = {name: value for name, value in {**checkpoint.state_dict, **change}.items() if value is not None}
    dataclasses.replace(checkpoint, state_dict=weights).save(tmp_path / "a.pt")
    loaded = Checkpoint.load(tmp_path / "a.pt")
    with pytest.raises(
        CheckpointError, match=f"^weights: .*{told}.*; the file was altered, or is of another planetlib"
    ):
        loaded.build_model()


@pytest.mark.parametrize("change", [{"backbone": "resnet50"}, {"head": "linear"}, {"class_names": ["a", "b"]}])
def test_weights_of_another_backbone_head_or_number_of_classes_are_refused(change, checkpoint):
    with pytest.raises(CheckpointError, match="^weights: .*expected .* of '"):
        dataclasses.replace(checkpoint, **change).build_model()


@pytest.mark.parametrize(
    "detector", [{"weight": torch.ones(5, 7), "bias": torch.zeros(5)}, {"weight": torch.ones(5, 1792)}]
)
def test_a_detector_that_does_not_fit_is_refused(detector, checkpoint):
    with pytest.raises(CheckpointError, match="^detector: .*expected "):
        dataclasses.replace(checkpoint, detector=detector).build_model()


def test_a_file_that_unpacks_to_more_than_it_is_is_refused_at_once(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/bomb", bytes(100_000_000))
    with pytest.raises(CheckpointError, match=r"its entries claim \d+ bytes, more than the file has"):
        Checkpoint.load(tmp_path / "a.pt")


def test_equal_content_gives_equal_bytes_under_any_name(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "a.pt")
    checkpoint.save(tmp_path / "another name.checkpoint")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another name.checkpoint").read_bytes()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_whole(call, tmp_path, monkeypatch):
    write_torch({"epoch": 1}, tmp_path / "a.pt")
    before = (tmp_path / "a.pt").read_bytes()

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            write_torch({"epoch": 2}, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == before
    write_torch({"epoch": 3}, tmp_path / "a.pt")
    assert read_torch(tmp_path / "a.pt") == {"epoch": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_the_finetuned_checkpoint_is_preferred(tmp_path):
    (tmp_path / "head.pt").touch()
    assert find_checkpoint(tmp_path) == tmp_path / "head.pt"
    (tmp_path / "finetune.pt").touch()
    assert find_checkpoint(str(tmp_path)) == tmp_path / "finetune.pt"
    assert find_checkpoint(tmp_path / "head.pt") == tmp_path / "head.pt"


@pytest.mark.parametrize("place", [".", "nowhere"])
def test_a_folder_without_checkpoint_is_told_with_what_makes_one(place, tmp_path):
    (tmp_path / "head_state.pt").touch()
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(tmp_path / place)
    run = tmp_path / place
    assert str(caught.value) == f"{run}: no checkpoint there; 'planetlib train --run {run}' or notebook 02 makes it"
