"""The two training stages: what moves, what stands still, and that a killed run loses nothing."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional

from planetlib import PlanetlibError
from planetlib.checkpoint import Checkpoint, CheckpointError, read_torch, write_torch
from planetlib.classify import Classifier
from planetlib.data import make_samples
from planetlib.features import FrozenFeatures
from planetlib.files.tables import DataError, write_table
from planetlib.model import Network
from planetlib.train import Phase, make_schedule, run_epoch, train_phase

COLUMNS = "stage epoch learning_rate train_loss train_accuracy val_loss val_accuracy seconds".split()
STAGES = ["head", "finetune"]


@pytest.fixture
def settings(trained_run, tmp_path):
    """The settings of `trained_run` with a run folder of its own, in which the head is trained already."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("head.pt", "head_state.pt"):
        shutil.copy(trained_run.run / name, run)
    return trained_run.replace(run=run)


def train(stage, settings, samples, **options) -> pd.DataFrame:
    return train_phase(stage, settings, samples, progress=False, **options)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    content = read_torch(path)
    return content["trained"] if path.name.endswith("_state.pt") else content["state_dict"]


def history_of(stage: str, run: Path) -> pd.DataFrame:
    history = pd.read_csv(run / "history.csv").drop(columns="seconds")
    return history[history.stage == stage].reset_index(drop=True)


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert list(first) == list(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def assert_same_run(stage: str, run: Path, other: Path) -> None:
    """Both files of a stage agree to the last bit, and so does the history, save for the seconds."""
    assert (run / f"{stage}.pt").read_bytes() == (other / f"{stage}.pt").read_bytes()
    assert_same_weights(run / f"{stage}_state.pt", other / f"{stage}_state.pt")
    pd.testing.assert_frame_equal(history_of(stage, run), history_of(stage, other), check_exact=True)


def interrupt_at_step(monkeypatch, number: int) -> None:
    """The optimiser's step of this number, from 1, ends in a KeyboardInterrupt."""
    step, count = torch.optim.AdamW.step, iter(range(1, 10_000))

    def interrupted(self, *arguments, **options):
        if next(count) == number:
            raise KeyboardInterrupt
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)


# What is trained and what is not


def test_stage_one_leaves_the_backbone_as_it_was_to_the_last_bit(trained_run):
    before = Network(trained_run.backbone, 3).state_dict()
    after = weights_of(trained_run.run / "head.pt")
    backbone = [name for name in before if name.startswith("backbones.")]
    assert any(name.endswith("running_var") for name in backbone)
    assert all(torch.equal(before[name], after[name]) for name in backbone)


def test_stage_two_moves_the_free_stages_and_leaves_the_others_to_the_last_bit(trained_run):
    before, after = (weights_of(trained_run.run / f"{stage}.pt") for stage in STAGES)
    free = Network(trained_run.backbone, 3, weights="random").last_stages(trained_run.free_stages)
    for name, value in before.items():
        is_free = name.startswith("head.") or any(name.startswith(f"backbones.{stage}.") for stage in free)
        is_norm = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(value, after[name]) != (is_free and not is_norm), name


def test_the_head_learns(trained_run):
    history = pd.read_csv(trained_run.run / "history.csv")
    loss = history.train_loss[history.stage == "head"].to_numpy()
    assert loss[-1] < 0.5 * loss[0]
    assert history.val_accuracy.iloc[-1] == 1


def test_the_checkpoint_is_that_of_the_best_epoch(trained_run):
    history = pd.read_csv(trained_run.run / "history.csv")
    for stage in STAGES:
        checkpoint, part = Checkpoint.load(trained_run.run / f"{stage}.pt"), history[history.stage == stage]
        best = part.loc[part.val_loss.idxmin()]
        assert (checkpoint.stage, checkpoint.epoch) == (stage, best.epoch)
        assert checkpoint.metrics == pytest.approx({"val_loss": best.val_loss, "val_accuracy": best.val_accuracy})
        assert checkpoint.recipe == trained_run.recipe_choices()
        assert (checkpoint.class_names, checkpoint.image_size, checkpoint.fit) == (["blue", "green", "red"], 64, "pad")


# The same again


@pytest.mark.parametrize("stage", STAGES)
def test_the_same_command_gives_the_same_bytes(stage, settings, trained_run, samples):
    train(stage, settings, samples)
    assert_same_run(stage, settings.run, trained_run.run)


def test_a_stage_named_by_an_equal_string_gives_the_same_bytes(settings, trained_run, samples):
    train("".join(["he", "ad"]), settings, samples)  # as from a command line: equal to "head", not the same object
    assert (settings.run / "head.pt").read_bytes() == (trained_run.run / "head.pt").read_bytes()


@pytest.mark.parametrize("stage", STAGES)
def test_worker_processes_change_nothing(stage, settings, trained_run, samples):
    train(stage, settings.replace(workers=2), samples)
    assert_same_run(stage, settings.run, trained_run.run)


@pytest.mark.parametrize("stage", STAGES)
def test_another_seed_gives_other_weights(stage, settings, trained_run, samples):
    train(stage, settings.replace(seed=1), samples)
    ours, others = weights_of(settings.run / f"{stage}.pt"), weights_of(trained_run.run / f"{stage}.pt")
    assert not torch.equal(ours["head.1.weight"], others["head.1.weight"])


def test_each_view_of_a_picture_is_augmented_otherwise(settings, trained_run, samples):
    train("head", settings.replace(views=1), samples)
    ours, others = weights_of(settings.run / "head_state.pt"), weights_of(trained_run.run / "head_state.pt")
    assert not torch.equal(ours["1.weight"], others["1.weight"])


# Killed, interrupted, resumed

DYING_RUN = """
import json, os, signal, sys
from pathlib import Path
import torch
from planetlib.files.tables import read_samples
from planetlib.settings import Settings
from planetlib.train import train_phase

stage, choices, samples, moment = sys.argv[1:]
settings = Settings(**json.loads(choices))
state = Path(settings.run, f"{stage}_state.pt")
step, replace = torch.optim.AdamW.step, os.replace

def dying_step(self, *arguments, **options):
    result = step(self, *arguments, **options)
    if moment == "in an epoch" and state.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return result

def dying_replace(source, target):
    if moment == "before the state is written" and Path(target) == state and state.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

torch.optim.AdamW.step, os.replace = dying_step, dying_replace
train_phase(stage, settings, read_samples(samples), progress=False)
"""


@pytest.mark.parametrize(
    ("stage", "moment"),
    [("head", "in an epoch"), ("finetune", "in an epoch"), ("finetune", "before the state is written")],
)
def test_a_killed_run_that_is_resumed_ends_as_one_left_alone(stage, moment, settings, trained_run, samples, tmp_path):
    (settings.run / f"{stage}_state.pt").unlink(missing_ok=True)
    write_table(samples, tmp_path / "samples.csv")
    choices = json.dumps(dataclasses.asdict(settings), default=str)
    script = [sys.executable, "-c", DYING_RUN, stage, choices, str(tmp_path / "samples.csv"), moment]
    assert subprocess.run(script, timeout=120).returncode == -signal.SIGKILL
    assert read_torch(settings.run / f"{stage}_state.pt")["epoch"] == 1
    train(stage, settings, samples, resume=True)
    assert_same_run(stage, settings.run, trained_run.run)


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_tells_what_is_kept_and_how_to_go_on(stage, settings, trained_run, samples, monkeypatch, capsys):
    epochs = getattr(settings, f"{stage}_epochs")
    with monkeypatch.context() as patch:
        interrupt_at_step(patch, 8)  # there are six in an epoch
        history = train(stage, settings, samples)
    assert history[history.stage == stage].epoch.tolist() == [1]
    assert capsys.readouterr().err == (
        f"Interrupted after epoch 1 of {epochs} of stage '{stage}'; its best checkpoint is "
        f"{settings.run / stage}.pt. Train with resume (--resume) to go on.\n"
    )
    train(stage, settings, samples, resume=True)
    assert_same_run(stage, settings.run, trained_run.run)


def test_a_resumed_run_remembers_its_best_epoch(settings, samples, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at_step(patch, 8)
        train("head", settings, samples)
    state = read_torch(settings.run / "head_state.pt")
    write_torch({**state, "best_loss": 0.0}, settings.run / "head_state.pt")  # no later epoch can be better
    train("head", settings, samples, resume=True)
    assert read_torch(settings.run / "head_state.pt")["epoch"] == settings.head_epochs
    assert Checkpoint.load(settings.run / "head.pt").epoch == 1


def test_an_interrupt_before_the_first_epoch_ends_says_that_nothing_is_kept(settings, samples, monkeypatch, capsys):
    interrupt_at_step(monkeypatch, 2)
    assert train("head", settings, samples).empty
    assert "after epoch 0 of 12 of stage 'head'; nothing is kept yet" in capsys.readouterr().err
    assert not (settings.run / "head.pt").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_resuming_a_stage_that_has_ended_changes_nothing(stage, trained_run, samples, tmp_path):
    run = shutil.copytree(trained_run.run, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.glob("*.*")}
    train(stage, trained_run.replace(run=run), samples, resume=True)
    assert {path.name: path.read_bytes() for path in run.glob("*.*")} == before


def test_training_the_head_anew_forgets_what_came_after(trained_run, samples, tmp_path):
    run = shutil.copytree(trained_run.run, tmp_path / "run")
    history = train("head", trained_run.replace(run=run), samples)
    assert set(history.stage) == {"head"} == set(pd.read_csv(run / "history.csv").stage)
    assert not list(run.glob("finetune*"))


def test_resuming_an_ended_head_keeps_what_came_after(trained_run, samples, tmp_path):
    run = shutil.copytree(trained_run.run, tmp_path / "run")
    history = train("head", trained_run.replace(run=run), samples, resume=True)
    assert list(history.stage.unique()) == ["head", "finetune"]
    assert (run / "finetune.pt").exists()


def test_resuming_an_unfinished_head_forgets_what_came_after(trained_run, samples, tmp_path):
    run = shutil.copytree(trained_run.run, tmp_path / "run")
    state = read_torch(run / "head_state.pt")
    write_torch({**state, "epoch": state["epoch"] - 1, "best_epoch": 1}, run / "head_state.pt")
    history = train("head", trained_run.replace(run=run), samples, resume=True)
    assert set(history.stage) == {"head"} and not list(run.glob("finetune*"))


def test_a_loss_that_is_no_number_ends_training_with_advice(settings, samples):
    told = r"got the loss (nan|inf) in step \d+ of epoch 1 of stage 'head', expected a number: lower head_lr .*, "
    with pytest.raises(PlanetlibError, match=told + r"now 1e\+30; nothing is kept yet$"):
        train("head", settings.replace(head_lr=1e30), samples)


def test_a_loss_that_is_no_number_stops_at_its_step_and_keeps_the_last_good_checkpoint(settings, samples, monkeypatch):
    step, count = torch.optim.AdamW.step, iter(range(1, 10_000))

    def spoil(self, *arguments, **options):
        result = step(self, *arguments, **options)
        if next(count) == 8:  # there are six in an epoch
            self.param_groups[0]["params"][0].data.fill_(torch.nan)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    told = (
        f"got the loss nan in step 3 of epoch 2 of stage 'head', .*; its best checkpoint is {settings.run / 'head.pt'}$"
    )
    with pytest.raises(PlanetlibError, match=told):
        train("head", settings, samples)
    assert next(count) == 9  # no further step was taken
    kept = Checkpoint.load(settings.run / "head.pt")
    kept.build_model()  # refuses weights that are no numbers
    assert kept.epoch == 1


def test_a_gpu_without_room_is_told_with_what_to_lower(settings, samples, monkeypatch):
    def fill(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", fill)
    told = r"too little memory for steps of 8 pictures; expected room for them: lower batch_size \(--batch-size\) or"
    with pytest.raises(PlanetlibError, match=told):
        train("head", settings, samples)


@pytest.mark.parametrize(
    "change", [{"epoch": None}, {"trained": {}}, {"optimiser": 5}, {"scheduler": {"_schedulers": 1}}]
)
def test_a_state_that_does_not_fit_is_refused(change, settings, samples):
    state = read_torch(settings.run / "head_state.pt")
    state = {**state, **change}
    if state["epoch"] is None:
        del state["epoch"]
    write_torch(state, settings.run / "head_state.pt")
    with pytest.raises(CheckpointError, match="head_state.pt: got another state .*; expected one that training wrote"):
        train("head", settings, samples, resume=True)


def test_a_run_killed_before_its_history_was_written_gets_it_when_resumed(settings, trained_run, samples):
    write_table(pd.read_csv(trained_run.run / "history.csv").head(3), settings.run / "history.csv")
    train("head", settings, samples, resume=True)
    pd.testing.assert_frame_equal(history_of("head", settings.run), history_of("head", trained_run.run))


def folder_of(counts: dict[str, int], folder: Path) -> Path:
    """Pictures of noise, so many of each class."""
    rng = np.random.default_rng(0)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.parametrize("counts, batch_size", [
    ({"a": 3, "b": 3}, 64),
    ({f"class {number:02d}": 3 for number in range(40)}, 16),
    ({"few": 3, "many": 60}, 16),
], ids=["two classes in less than a batch", "forty classes", "very unbalanced"])  # fmt: skip
def test_any_number_of_classes_and_of_pictures_is_trained_on(counts, batch_size, settings, tmp_path):
    table = make_samples(folder_of(counts, tmp_path / "data"), progress=False)
    changes = {"image_size": 32, "views": 1, "head_epochs": 1, "finetune_epochs": 1, "outliers": 1}
    settings = settings.replace(run=tmp_path / "new", batch_size=batch_size, **changes)
    for stage in STAGES:
        history = train(stage, settings, table)
    assert np.isfinite(history.val_loss).all()
    checkpoint = Checkpoint.load(settings.run / "finetune.pt")
    assert checkpoint.class_names == sorted(counts)
    assert len(Classifier(checkpoint, "cpu").predict(table.path, progress=False).filter(like="prob_").columns) == len(
        counts
    )


def test_an_unknown_recipe_is_told(settings, samples):
    with pytest.raises(PlanetlibError, match="unknown recipe 'x'; expected one of: robust, reference"):
        train("head", settings.replace(recipe="x"), samples)


def test_resuming_with_other_choices_is_refused_and_names_them(settings, samples):
    with pytest.raises(CheckpointError) as caught:
        train("head", settings.replace(seed=5, head_lr=0.5), samples, resume=True)
    text = f"{settings.run}: was made with head_lr 0.01 (now 0.5), seed 0 (now 5); take the same, or another run folder"
    assert str(caught.value) == text


def test_resuming_with_other_data_is_refused(settings, samples):
    fewer = samples.drop(index=samples.index[samples.split == "train"][0])
    with pytest.raises(CheckpointError, match=r"was made with data [0-9a-f]{16} \(now [0-9a-f]{16}\); take the same"):
        train("head", settings, fewer, resume=True)


def test_other_data_folder_or_worker_count_is_no_obstacle_to_resuming(settings, samples, tmp_path):
    history = train("head", settings.replace(data=tmp_path, workers=1), samples, resume=True)
    assert len(history) == settings.head_epochs


def test_finetuning_before_the_head_is_told(trained_run, samples, tmp_path):
    expected = re.escape(f"{tmp_path / 'head.pt'}: not there; stage 'finetune' starts from stage 'head'")
    with pytest.raises(CheckpointError, match=expected):
        train("finetune", trained_run.replace(run=tmp_path), samples)


def test_finetuning_a_head_of_another_image_size_is_refused(settings, samples):
    with pytest.raises(CheckpointError, match=r"was made with image_size 64 \(now 32\)"):
        train("finetune", settings.replace(image_size=32), samples)


def test_unknown_stage_is_told(settings, samples):
    with pytest.raises(PlanetlibError, match="unknown stage 'tail'; expected one of: head, finetune"):
        train("tail", settings, samples)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_table_without_a_split_is_told(split, settings, samples):
    with pytest.raises(DataError, match=f"no '{split}' pictures of: blue, green, red; split the samples anew"):
        train("head", settings, samples[samples.split != split])


# The loop


def test_training_stops_after_so_many_epochs_without_improvement(settings, samples):
    history = train("head", settings.replace(head_lr=1e-30, patience=3), samples)
    assert history.epoch.tolist() == [1, 2, 3, 4]
    assert Checkpoint.load(settings.run / "head.pt").epoch == 1


def test_history_has_a_row_for_each_epoch(trained_run):
    history = pd.read_csv(trained_run.run / "history.csv")
    assert list(history.columns) == COLUMNS
    assert history.stage.tolist() == ["head"] * 12 + ["finetune"] * 3
    assert history.epoch.tolist() == [*range(1, 13), *range(1, 4)] and history.epoch.dtype == np.int64
    assert (history.iloc[:, 2:] >= 0).all(axis=None)
    assert history.train_accuracy.between(0, 1).all() and history.val_accuracy.between(0, 1).all()


@pytest.mark.parametrize("stage", STAGES)
def test_tensorboard_receives_the_history_and_the_augmented_images(stage, trained_run):
    events = EventAccumulator(str(trained_run.run / "tensorboard" / stage)).Reload()
    history = pd.read_csv(trained_run.run / "history.csv")
    part = history[history.stage == stage]
    assert sorted(events.Tags()["scalars"]) == sorted(COLUMNS[2:])
    for name in COLUMNS[2:]:
        logged = events.Scalars(name)
        assert [event.step for event in logged] == part.epoch.tolist()
        assert [event.value for event in logged] == pytest.approx(part[name].tolist())
    assert bool(events.Tags()["images"]) == (stage == "head")
    assert all(event.step == 1 for tag in events.Tags()["images"] for event in events.Images(tag))


def test_training_anew_replaces_what_tensorboard_shows(settings, samples):
    for _ in range(2):
        train("finetune", settings, samples)
    events = EventAccumulator(str(settings.run / "tensorboard" / "finetune")).Reload()
    assert [event.step for event in events.Scalars("val_loss")] == [1, 2, 3]


def test_a_class_with_fewer_pictures_weighs_more(settings, samples):
    blue = samples.index[(samples.label == "blue") & (samples.split == "train")]
    weights = Phase("head", settings.replace(outliers=0), samples.drop(index=blue[:4]), progress=False).class_weights
    # N / (number of classes × N of the class)
    assert weights.tolist() == pytest.approx([14 / (3 * 2), 14 / (3 * 6), 14 / (3 * 6)])


@pytest.fixture
def ten():
    """Ten random inputs of 4 numbers, their classes, and weights of the three classes."""
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(10, 4, generator=generator), torch.tensor([0, 1, 2, 0, 0, 1, 2, 2, 1, 0])
    return inputs, labels, torch.tensor([0.5, 1.0, 3.0])


def test_metrics_are_means_over_samples_with_a_short_last_batch(ten):
    inputs, labels, class_weights = ten
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    batches = zip(inputs.split(4), labels.split(4))  # 4, 4 and 2
    loss, accuracy = run_epoch(module, batches, class_weights)
    logits = module(inputs)
    assert loss == pytest.approx(functional.cross_entropy(logits, labels, class_weights).item(), rel=1e-6)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_an_epoch_without_optimiser_changes_nothing(ten):
    inputs, labels, class_weights = ten
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    results = {run_epoch(module, [(inputs, labels)], class_weights) for _ in range(3)}
    assert len(results) == 1
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_label_smoothing_spreads_the_target(ten):
    inputs, labels, class_weights = ten
    module = nn.Linear(4, 3)
    loss, _ = run_epoch(module, [(inputs, labels)], class_weights, label_smoothing=0.3)
    expected = functional.cross_entropy(module(inputs), labels, class_weights, label_smoothing=0.3)
    assert loss == pytest.approx(expected.item(), rel=1e-6)


def test_a_step_follows_the_weighted_mean_gradient_of_its_batch(ten):
    inputs, labels, class_weights = ten
    module = nn.Linear(4, 3)
    start = module.weight.detach().clone()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    expected = torch.autograd.grad(functional.cross_entropy(module(inputs), labels, class_weights), module.weight)[0]
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)
    run_epoch(module, [(inputs, labels)], class_weights, optimiser, scheduler)
    torch.testing.assert_close(module.weight, start - 0.1 * expected)
    assert scheduler.last_epoch == 1


def test_learning_rate_rises_in_a_line_and_falls_in_a_cosine_to_zero():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = make_schedule(optimiser, steps=100, warmup=0.1)
    rates = []
    for _ in range(101):
        rates.append(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()
    rise = 0.2 * np.linspace(0.01, 1, 11)
    fall = 0.2 * (1 + np.cos(np.pi * np.arange(91) / 90)) / 2
    np.testing.assert_allclose(rates, np.concatenate([rise[:-1], fall]), atol=1e-12)
    assert max(rates) == rates[10] == pytest.approx(0.2) and rates[-1] == pytest.approx(0, abs=1e-12)


def test_training_meets_outliers_and_validation_does_not(settings, samples):
    for stage in STAGES:
        batches, validation = Phase(stage, settings, samples, progress=False)._make_batches()
        kinds = len(Checkpoint.load(settings.run / "head.pt").outlier_kinds)
        counts = torch.bincount(torch.cat([batch[-1] for batch in batches(0)]))
        assert counts.tolist() == [6] * 3 + [settings.outliers] * kinds
        labels = torch.cat([batch[-1] for batch in validation])
        assert len(labels) == settings.views * (samples.split == "val").sum() and labels.max() == 2


def test_without_views_each_epoch_meets_a_new_one_and_keeps_none(settings, samples):
    batches, _ = Phase("head", settings.replace(views=0), samples, progress=False)._make_batches()
    kept = len(list((settings.run / "views").glob("*")))  # that of validation
    features = [torch.cat([batch[0] for batch in batches(epoch)]).sum() for epoch in (0, 1, 7)]
    assert len({float(value) for value in features}) == 3
    assert len(list((settings.run / "views").glob("*"))) == kept == 1


def test_views_are_met_in_turn(settings, samples):
    batches, _ = Phase("finetune", settings, samples, progress=False)._make_batches()
    first, second, third = (torch.cat([maps for maps, _ in batches(epoch)]).sum(0) for epoch in range(3))
    torch.testing.assert_close(first, third)  # in another order
    assert not torch.allclose(first, second)


def test_both_stages_share_their_views_and_leave_none_behind(settings, samples, monkeypatch):
    computed = []
    compute = FrozenFeatures._compute
    monkeypatch.setattr(
        FrozenFeatures, "_compute", lambda self, *arguments: (computed.append(1), compute(self, *arguments))
    )
    train("head", settings, samples)
    assert len(computed) == 2 * settings.views
    train("finetune", settings, samples)
    assert len(computed) == 2 * settings.views and not (settings.run / "views").exists()
