"""The checkpoint: what it carries, what it refuses, and that it is written whole or not at all."""

import dataclasses
import errno
import os
import re

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
from planetlib.model import PlanetClassifier


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
        state_dict=dict(PlanetClassifier("efficientnet_lite0", 5, "reference", "random").state_dict()),
        stage="finetune",
        epoch=4,
        metrics={"val_loss": 0.25, "val_accuracy": 0.875},
        temperature=1.5,
        detector={"weight": torch.ones(3, 4), "bias": torch.zeros(3)},
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
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
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
    with pytest.raises(CheckpointError, match=f"not a planetlib checkpoint of format {CHECKPOINT_FORMAT}"):
        Checkpoint.load(tmp_path / "b.pt")


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
