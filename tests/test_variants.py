"""What other choices would have given."""

import shutil

import pytest
import torch

from planetlib.checkpoint import Checkpoint
from planetlib.study.variants import compare_variants


@pytest.mark.parametrize("phase", ["head", "finetune"])
def test_each_variant_is_trained_by_itself_and_scored_on_every_set(phase, trained_run, samples, tmp_path):
    settings = trained_run.replace(run=shutil.copytree(trained_run.run, tmp_path / "run"))
    kept = (settings.run / "head.safetensors").read_bytes()
    sets = {name: samples[samples.split == name] for name in ("val", "test")}
    variants = {"as it is": {}, "at once": {f"{phase}_lr": 1e-9}}
    table = compare_variants(settings, samples, variants, sets, phase)
    assert table.index.tolist() == list(variants) and list(table) == list(sets)
    assert table.le([len(part) for part in sets.values()]).all(axis=None)
    assert table.test["as it is"] >= table.test["at once"]
    runs = [settings.run, *(settings.run / "variants" / name for name in ("as_it_is", "at_once"))]
    same, usual, other = (Checkpoint.load(run / f"{phase}.safetensors").state_dict for run in runs)
    assert all(torch.equal(same[name], value) for name, value in usual.items())
    assert not all(torch.equal(same[name], value) for name, value in other.items())
    assert (settings.run / "head.safetensors").read_bytes() == kept
