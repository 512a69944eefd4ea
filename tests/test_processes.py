"""Training by two processes: the loss curve of one process with the same batches, and only one that writes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from planetlib import PlanetlibError
from planetlib.checkpoint import Checkpoint
from planetlib.cli import main
from planetlib.files.tables import write_table
from planetlib.nets.processes import ALONE, Processes, join_processes

# Dropout is left out, as each process draws masks of its own. A step is interrupted, and the training goes on.
TWO_PROCESSES = """
import sys
import torch
import tests.toy
from torch import nn
from planetlib.cli import main

nn.Dropout.forward = lambda self, values: values
torch.set_num_threads(1)
step, calls = torch.optim.AdamW.step, []

def interrupted(self, *arguments, **options):
    calls.append(1)
    if len(calls) == int(sys.argv[1]):
        raise KeyboardInterrupt
    return step(self, *arguments, **options)

torch.optim.AdamW.step = interrupted
print("exit code", main(sys.argv[2:]))
print("exit code", main([*sys.argv[2:], "--resume"]))
"""
OPTIONS = """--profile fixture --backbone toy --image-size 64 --outliers 2 --views 2 --head-epochs 4 --finetune-epochs 3
             --free-stages 2 --head-lr 0.1 --batch-size 7 --device cpu --no-audit"""


def test_two_processes_have_the_loss_curve_of_one(fixture_folder, samples, tmp_path, monkeypatch):
    # Fewer pictures of one class, and in a last batch none for the second process.
    uneven = samples.drop(index=samples.index[(samples.label == "blue") & (samples.split == "train")][:3])
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["train", "--data", str(fixture_folder), *OPTIONS.split(), "--run"]
    for run in (one, two):
        write_table(uneven, run / "samples.csv")
    with monkeypatch.context() as patch:
        patch.setattr(nn.Dropout, "forward", lambda self, values: values)
        assert main([*words, str(one)]) == 0
    alone = Checkpoint.load(one / "finetune.safetensors")
    steps, rest = divmod((uneven.split == "train").sum() + 2 * len(alone.outlier_kinds), 7)
    assert rest == 1

    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--"]
    in_second_epoch = 4 * (steps + 1) + (steps + 1) + 2
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [*launch, tmp_path / "two.py", str(in_second_epoch), *words, two]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exit code") == 2  # the second process is silent
    assert "exit code 130" in done.stdout and "exit code 0" in done.stdout
    assert done.stdout.count("finetune: epoch") == 1 and "Interrupted after epoch 1 of 3" in done.stderr

    found, expected = (pd.read_csv(run / "history.csv") for run in (two, one))
    same = ["phase", "epoch", "learning_rate"]
    assert len(found) == 7 and found[same].equals(expected[same])
    # Sums in another order, and AdamW, which divides by what is nearly nothing.
    for names, most in ((["train_loss", "val_loss"], 1e-3), (["train_accuracy", "val_accuracy"], 1e-9)):
        np.testing.assert_allclose(found[names], expected[names], rtol=most)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert len(list((two / "tensorboard" / "head").iterdir())) == 1
    kept = Checkpoint.load(two / "finetune.safetensors")
    assert kept.epoch == alone.epoch and kept.calibration
    for name, value in alone.state_dict.items():
        torch.testing.assert_close(kept.state_dict[name], value, rtol=1e-2, atol=1e-3)


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes() is ALONE


def test_shares_make_up_the_batch():
    batches = [(torch.arange(8).view(4, 2), torch.arange(4)), (torch.ones(1, 2), torch.ones(1))]
    shares = [list(Processes(rank, 2).take_share(batches)) for rank in (0, 1)]
    assert [part.tolist() for share in shares for _, part in share] == [[0, 2], [1], [1, 3], []]
    assert shares[1][1][0].shape == (0, 2)


@pytest.mark.parametrize("changes, told", [({"norm": "moving"}, "the norm 'moving'"), ({"views": 0}, "views 0")])
def test_a_training_that_cannot_be_shared_is_refused(changes, told, trained_run):
    Processes(1, 2).require_fit(trained_run)
    with pytest.raises(PlanetlibError, match=f"got 2 processes and {told}"):
        Processes(1, 2).require_fit(trained_run.replace(**changes))
