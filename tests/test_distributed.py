"""Training by two processes: the loss curve of one process with the same batches, and only one that writes."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from planetlib import PlanetlibError
from planetlib.batch import processes as distributed
from planetlib.checkpoint import Checkpoint
from planetlib.files.tables import write_table
from planetlib.train import train_phase

# Dropout is left out, as each process draws masks of its own. Stage two is interrupted in its second epoch.
TWO_PROCESSES = """
import json, sys
import torch
from torch import nn
from planetlib.batch.processes import find_rank, join_processes
from planetlib.settings import Settings
from planetlib.files.tables import read_samples
from planetlib.train import train_phase

nn.Dropout.forward = lambda self, values: values
join_processes()
torch.set_num_threads(1)
settings, samples = Settings(**json.loads(sys.argv[1])), read_samples(sys.argv[2])
train_phase("head", settings, samples)
step, calls = torch.optim.AdamW.step, []

def interrupted(self, *arguments, **options):
    calls.append(1)
    if len(calls) == 10:
        raise KeyboardInterrupt
    return step(self, *arguments, **options)

torch.optim.AdamW.step = interrupted
for resume in (False, True):
    history = train_phase("finetune", settings, samples, resume=resume)
    print("epochs", len(history), "of", find_rank())
"""


def run_two(*command) -> str:
    """What two processes print that torchrun starts."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *map(str, command)]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def uneven(samples):
    """A samples table with fewer pictures of one class, and of a last batch's pictures none for the second process."""
    blue = samples.index[(samples.label == "blue") & (samples.split == "train")]
    return samples.drop(index=blue[:3])


def test_two_processes_have_the_loss_curve_of_one(trained_run, uneven, tmp_path, monkeypatch):
    changes = {"outliers": 2, "views": 2, "head_epochs": 4, "finetune_epochs": 3, "batch_size": 7}
    one, two = (trained_run.replace(run=tmp_path / name, **changes) for name in ("one", "two"))
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, values: values)
    for stage in ("head", "finetune"):
        expected = train_phase(stage, one, uneven, progress=False)
    kinds = len(Checkpoint.load(one.run / "head.pt").outlier_kinds)
    assert ((uneven.split == "train").sum() + 2 * kinds) % 7 == 1  # the last batch is one picture

    write_table(uneven, tmp_path / "samples.csv")
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    choices = json.dumps({name: value for name, value in dataclasses.asdict(two).items()}, default=str)
    printed = run_two(tmp_path / "two.py", choices, tmp_path / "samples.csv")
    assert printed.split("\n")[:2] == ["epochs 5 of (0, 2)", "epochs 7 of (0, 2)"]  # the second process is silent

    found = pd.read_csv(two.run / "history.csv")
    assert found[["stage", "epoch", "learning_rate"]].equals(expected[["stage", "epoch", "learning_rate"]])
    # Sums in another order, and AdamW, which divides by what is nearly nothing.
    np.testing.assert_allclose(found[["train_loss", "val_loss"]], expected[["train_loss", "val_loss"]], rtol=1e-3)
    same = ["train_accuracy", "val_accuracy"]
    np.testing.assert_allclose(found[same], expected[same], atol=1e-9)
    assert len(list((two.run / "tensorboard" / "head").iterdir())) == 1
    kept, alone = (Checkpoint.load(settings.run / "finetune.pt") for settings in (two, one))
    assert kept.epoch == alone.epoch and kept.calibration
    for name, value in alone.state_dict.items():
        torch.testing.assert_close(kept.state_dict[name], value, rtol=1e-2, atol=1e-3)


def test_the_command_line_under_torchrun_makes_one_run(trained_run, tmp_path):
    options = (
        "--profile fixture --image-size 64 --outliers 1 --head-epochs 1 --finetune-epochs 1 --device cpu --no-audit"
    )
    printed = run_two("-m", "--", "planetlib", "train", "--data", trained_run.data, "--run", tmp_path, *options.split())
    assert printed.count("head: epoch 1 of 1 kept") == printed.count("finetune: epoch 1 of 1 kept") == 1
    assert pd.read_csv(tmp_path / "history.csv").stage.tolist() == ["head", "finetune"]
    assert not (tmp_path / "views").exists() and Checkpoint.load(tmp_path / "finetune.pt").calibration


def test_one_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    distributed.join_processes()
    module, values = nn.Linear(2, 2), torch.ones(3)
    assert distributed.find_rank() == (0, 1) and distributed.is_first()
    assert distributed.share_gradients(module, "moving") is module
    assert distributed.add_up(values).tolist() == [1, 1, 1]
    assert distributed.wait_for_all() is None


def test_shares_make_up_the_batch(monkeypatch):
    batches = [(torch.arange(8).view(4, 2), torch.arange(4)), (torch.ones(1, 2), torch.ones(1))]
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "find_rank", lambda rank=rank: (rank, 2))
        shares.append(list(distributed.take_share(batches)))
    assert [part.tolist() for share in shares for _, part in share] == [[0, 2], [1], [1, 3], []]
    assert shares[1][1][0].shape == (0, 2)


def test_moving_statistics_are_refused(monkeypatch):
    monkeypatch.setattr(distributed.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "find_rank", lambda: (0, 2))
    with pytest.raises(PlanetlibError, match="got 2 processes and the norm 'moving'"):
        distributed.share_gradients(nn.Linear(2, 2), "moving")
