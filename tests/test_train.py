"""The two phases of training: what moves, what stands still, and that a killed run loses nothing."""

import re
import shutil
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import ConstantLR

from planetlib import PlanetlibError
from planetlib.checkpoint import PHASES, Checkpoint
from planetlib.classify import Classifier
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.features import FrozenFeatures
from planetlib.files.tables import DataError, write_table
from planetlib.files.tensors import CheckpointError, read_state, write_state
from planetlib.model import Network
from planetlib.nets.processes import ALONE
from planetlib.train import HISTORY, Phase, make_schedule, run_epoch, train_phase

STEPS = 6  # of an epoch of `trained_run`


@pytest.fixture
def settings(trained_run, tmp_path):
    """The settings of `trained_run` with a run folder of its own, in which the head is trained already."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("head.safetensors", "head_state.pt"):
        shutil.copy(trained_run.run / name, run)
    return trained_run.replace(run=run)


@pytest.fixture
def ended(trained_run, tmp_path):
    """The settings of `trained_run` with a copy of its run folder, both phases trained."""
    return trained_run.replace(run=shutil.copytree(trained_run.run, tmp_path / "ended"))


def train(phase, settings, samples, **options) -> pd.DataFrame:
    return train_phase(phase, settings, samples, progress=False, **options)[0]


def weights_of(phase: str, run: Path) -> dict[str, torch.Tensor]:
    return Checkpoint.load(run / f"{phase}.safetensors").state_dict


def history_of(phase: str, run: Path) -> pd.DataFrame:
    history = pd.read_csv(run / "history.csv").drop(columns="seconds")
    return history[history.phase == phase].reset_index(drop=True)


def assert_same_run(phase: str, run: Path, other: Path) -> None:
    """The checkpoints agree byte for byte, and to the last bit so do the states and the history, save for seconds."""
    assert (run / f"{phase}.safetensors").read_bytes() == (other / f"{phase}.safetensors").read_bytes()
    one, two = (read_state(folder / f"{phase}_state.pt") for folder in (run, other))
    for first, second in ((one["trained"], two["trained"]), (one["optimiser"]["state"], two["optimiser"]["state"])):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert (one["epoch"], repr(one["scheduler"])) == (two["epoch"], repr(two["scheduler"]))
    pd.testing.assert_frame_equal(history_of(phase, run), history_of(phase, other), check_exact=True)


def at_step(monkeypatch, number: int, act) -> None:
    """Before the optimiser's step of this number, from 1, `act` is called with the optimiser."""
    step, numbers = torch.optim.AdamW.step, count(1)

    def acting(self, *arguments, **options):
        if next(numbers) == number:
            act(self)
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", acting)


def interrupt(*_) -> None:
    raise KeyboardInterrupt


# What is trained and what is not


def test_the_phase_head_leaves_the_backbone_as_it_was_to_the_last_bit(trained_run):
    before, after = Network(trained_run.backbone, 3).state_dict(), weights_of("head", trained_run.run)
    backbone = [name for name in before if name.startswith("backbones.")]
    assert any(name.endswith("running_var") for name in backbone)
    assert all(torch.equal(before[name], after[name]) for name in backbone)


@pytest.mark.parametrize("norm", ["frozen", "moving"])
def test_the_phase_finetune_moves_the_free_stages_and_leaves_the_others_to_the_last_bit(norm, settings, samples):
    train("finetune", settings.replace(norm=norm), samples)
    before, after = (weights_of(phase, settings.run) for phase in PHASES)
    free = Network(settings.backbone, 3).last_stages(settings.free_stages)
    for name, value in before.items():
        is_free = name.startswith("head.") or any(name.startswith(f"backbones.{stage}.") for stage in free)
        stands = norm == "frozen" and name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(value, after[name]) != (is_free and not stands), name


def test_the_head_learns(trained_run):
    history = pd.read_csv(trained_run.run / "history.csv")
    head = history[history.phase == "head"]
    assert head.train_loss.iloc[-1] < 0.8 * head.train_loss.iloc[0]
    assert head.val_loss.min() < 0.7 * head.val_loss.iloc[0] and head.val_accuracy.iloc[-1] == 1


def test_the_checkpoint_is_that_of_the_best_epoch(trained_run):
    for phase in PHASES:
        checkpoint = Checkpoint.load(trained_run.run / f"{phase}.safetensors")
        part = history_of(phase, trained_run.run)
        best = part.loc[part.val_loss.idxmin()]
        assert (checkpoint.phase, checkpoint.epoch) == (phase, best.epoch)
        assert checkpoint.metrics == pytest.approx({"val_loss": best.val_loss, "val_accuracy": best.val_accuracy})
        assert checkpoint.recipe == trained_run.recipe_choices()
        assert (checkpoint.class_names, checkpoint.image_size, checkpoint.fit) == (["blue", "green", "red"], 64, "pad")


def test_history_has_a_row_for_each_epoch(trained_run):
    history = pd.read_csv(trained_run.run / "history.csv")
    assert list(history.columns) == HISTORY
    assert history.phase.tolist() == ["head"] * 12 + ["finetune"] * 4
    assert history.epoch.tolist() == [*range(1, 13), *range(1, 5)] and history.epoch.dtype == np.int64


# The same again


def test_workers_do_not_change_a_byte(settings, trained_run, samples, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)  # else workers are not worth starting
    train("head", settings.replace(workers=2), samples)
    assert_same_run("head", settings.run, trained_run.run)


@pytest.mark.parametrize("phase", PHASES)
def test_another_seed_gives_other_weights(phase, settings, trained_run, samples):
    train(phase, settings.replace(seed=1), samples)
    ours, others = weights_of(phase, settings.run), weights_of(phase, trained_run.run)
    assert not torch.equal(ours["head.1.weight"], others["head.1.weight"])


# Interrupted, resumed; killed ones are in `test_kills`


@pytest.mark.parametrize("phase", PHASES)
def test_an_interrupt_tells_what_is_kept_and_how_to_go_on(phase, settings, trained_run, samples, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        at_step(patch, STEPS + 2, interrupt)
        history, interrupted = train_phase(phase, settings, samples, progress=False)
    assert interrupted and history[history.phase == phase].epoch.tolist() == [1]
    said, epochs = capsys.readouterr().err, getattr(settings, f"{phase}_epochs")
    assert f"after epoch 1 of {epochs} of phase '{phase}'" in said and "--resume" in said
    assert str(settings.run / f"{phase}.safetensors") in said
    _, interrupted = train_phase(phase, settings, samples, resume=True, progress=False)
    assert_same_run(phase, settings.run, trained_run.run)
    assert not interrupted


@pytest.mark.parametrize("moment", ["write_state", "calibrate"])  # the checkpoint is written, and what follows is not
def test_a_stop_after_the_checkpoint_is_written_loses_nothing(moment, settings, trained_run, samples, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, STEPS + 2, interrupt)
        train("head", settings, samples)
    with monkeypatch.context() as patch:
        patch.setattr(f"planetlib.train.{moment}", interrupt)
        assert train_phase("head", settings, samples, resume=True, progress=False)[1]
    assert not Checkpoint.load(settings.run / "head.safetensors").calibration
    train("head", settings, samples, resume=True)
    assert_same_run("head", settings.run, trained_run.run)


def test_a_resumed_run_remembers_its_best_epoch(settings, samples, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, STEPS + 2, interrupt)
        train("head", settings, samples)
    path = settings.run / "head_state.pt"
    write_state({**read_state(path), "best_loss": 0.0}, path)  # no later epoch can be better
    train("head", settings, samples, resume=True)
    assert read_state(path)["epoch"] == settings.head_epochs
    assert Checkpoint.load(settings.run / "head.safetensors").epoch == 1


@pytest.mark.parametrize("resume", [False, True], ids=["anew", "to its end"])
def test_training_the_head_forgets_what_came_after(resume, ended, samples):
    (ended.run / "MODEL_CARD.md").touch()
    state = read_state(ended.run / "head_state.pt")
    write_state({**state, "epoch": state["epoch"] - 1, "best_epoch": 1}, ended.run / "head_state.pt")
    history = train("head", ended, samples, resume=resume)
    assert set(history.phase) == {"head"} == set(pd.read_csv(ended.run / "history.csv").phase)
    assert not list(ended.run.glob("finetune*")) and not (ended.run / "MODEL_CARD.md").exists()


def test_a_run_killed_before_its_history_was_written_gets_it_when_resumed(settings, trained_run, samples):
    write_table(pd.read_csv(trained_run.run / "history.csv").head(3), settings.run / "history.csv")
    train("head", settings, samples, resume=True)
    pd.testing.assert_frame_equal(history_of("head", settings.run), history_of("head", trained_run.run))


def test_a_history_of_another_kind_is_replaced(settings, samples):
    (settings.run / "history.csv").write_text("stage,epoch\nhead,1\n")
    train("head", settings.replace(head_epochs=1), samples)
    assert history_of("head", settings.run).epoch.tolist() == [1]


@pytest.mark.parametrize("change", [
    {"epoch": None}, {"trained": {}}, {"optimiser": 5}, {"scheduler": {"_schedulers": 1}}, {"choices": [1]},
])  # fmt: skip
def test_a_state_that_does_not_fit_is_refused(change, settings, samples):
    state = {**read_state(settings.run / "head_state.pt"), **change}
    write_state({name: value for name, value in state.items() if value is not None}, settings.run / "head_state.pt")
    with pytest.raises(CheckpointError, match="head_state.pt: got another state.*--overwrite"):
        train("head", settings, samples, resume=True)


# What is refused, and what training says


@pytest.mark.parametrize("phase, changes, options, told", [
    ("head", {"seed": 5, "head_lr": 0.5}, {"resume": True}, r"head_lr 0.1 \(now 0.5\), seed 0 \(now 5\)"),
    ("finetune", {"recipe": "reference"}, {}, r"recipe robust \(now reference\)"),
])  # fmt: skip
def test_going_on_with_other_choices_is_refused_and_names_them(phase, changes, options, told, settings, samples):
    with pytest.raises(CheckpointError, match=f"was made with {told}.*another run folder"):
        train(phase, settings.replace(**changes), samples, **options)


@pytest.mark.parametrize("phase, options", [("head", {"resume": True}), ("finetune", {})])
def test_going_on_with_other_data_is_refused(phase, options, settings, samples):
    fewer = samples.drop(index=samples.index[samples.split == "train"][0])
    with pytest.raises(CheckpointError, match=r"was made with data [0-9a-f]{16} \(now [0-9a-f]{16}\)"):
        train(phase, settings, fewer, **options)


def test_finetuning_before_the_head_is_told(trained_run, samples, tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / 'head.safetensors'}: not there")):
        train("finetune", trained_run.replace(run=tmp_path), samples)


def test_an_unknown_phase_is_told(settings, samples):
    with pytest.raises(PlanetlibError, match="unknown phase 'tail'; expected one of: head, finetune"):
        train("tail", settings, samples)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_table_without_a_split_is_told(split, settings, samples):
    with pytest.raises(DataError, match=f"no '{split}' pictures of blue, green, red.*planetlib data split"):
        train("head", settings, samples[samples.split != split])


def test_a_loss_that_is_no_number_stops_at_its_step_and_keeps_the_last_good_checkpoint(settings, samples, monkeypatch):
    def spoil(optimiser):
        optimiser.param_groups[0]["params"][0].data.fill_(torch.nan)

    at_step(monkeypatch, STEPS + 2, spoil)
    told = "loss nan in step 3 of epoch 2 of phase 'head'.*head.safetensors: lower head_lr.*--head-lr.*0.1"
    with pytest.raises(PlanetlibError, match=told):
        train("head", settings, samples)
    kept = Checkpoint.load(settings.run / "head.safetensors")
    kept.build_model()  # refuses weights that are no numbers
    assert kept.epoch == 1


def test_a_gpu_without_room_is_told_with_what_to_lower(settings, samples, monkeypatch):
    at_step(monkeypatch, 1, Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(PlanetlibError, match="steps of 8 pictures; nothing is kept yet: lower.*--batch-size.*'cpu'"):
        train("head", settings, samples)


@pytest.mark.parametrize("classes, batch_size", [(2, 64), (40, 16)])  # the first make less than a batch
def test_any_number_of_classes_and_of_pictures_is_trained_on(classes, batch_size, trained_run, tmp_path):
    rng, names = np.random.default_rng(0), [f"class {number:02d}" for number in range(classes)]
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            noise = Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8))
            noise.save(tmp_path / "data" / name / f"{number}.png")
    table = split_samples(check_samples(find_samples(tmp_path / "data")))
    changes = {"image_size": 32, "views": 1, "head_epochs": 1, "finetune_epochs": 1, "outliers": 1}
    settings = trained_run.replace(run=tmp_path / "new", batch_size=batch_size, **changes)
    for phase in PHASES:
        history = train(phase, settings, table)
    assert np.isfinite(history.val_loss).all()
    predictions = Classifier.load(settings.run, device="cpu").predict(table.path, progress=False)
    assert list(predictions.filter(like="prob_")) == [f"prob_{name}" for name in names]


# The loop


def test_training_stops_after_so_many_epochs_without_improvement(settings, samples):
    history = train("head", settings.replace(head_lr=1e-12, patience=3), samples)
    best = history.val_loss.idxmin() + 1
    assert history.epoch.tolist() == [*range(1, best + 4)] and best + 3 < settings.head_epochs
    assert Checkpoint.load(settings.run / "head.safetensors").epoch == best


def test_tensorboard_receives_the_history_and_the_augmented_images_of_the_last_training(ended, samples):
    train("finetune", ended, samples)  # again
    for phase in PHASES:
        events, part = EventAccumulator(str(ended.run / "tensorboard" / phase)).Reload(), history_of(phase, ended.run)
        assert sorted(events.Tags()["scalars"]) == sorted(HISTORY[2:])
        for name in HISTORY[2:-1]:
            assert [event.step for event in events.Scalars(name)] == part.epoch.tolist()
            assert [event.value for event in events.Scalars(name)] == pytest.approx(part[name].tolist())
        assert [event.step for tag in events.Tags()["images"] for event in events.Images(tag)] == (
            [1] if phase == "head" else []
        )


def test_a_class_with_fewer_pictures_weighs_more(settings, samples):
    blue = samples.index[(samples.label == "blue") & (samples.split == "train")]
    phase = Phase("head", settings.replace(outliers=0), samples.drop(index=blue[:4]), False, ALONE)
    # N / (number of classes × N of the class)
    assert phase.loss.weight.tolist() == pytest.approx([14 / (3 * 2), 14 / (3 * 6), 14 / (3 * 6)])


def test_training_meets_outliers_and_validation_does_not(settings, samples):
    kinds = len(Checkpoint.load(settings.run / "head.safetensors").outlier_kinds)
    for name in PHASES:
        phase = Phase(name, settings, samples, False, ALONE)
        counts = torch.bincount(torch.cat([batch[-1] for batch in phase._training_batches()]))
        assert counts.tolist() == [6] * 3 + [settings.outliers] * kinds
        labels = torch.cat([batch[-1] for batch in phase._validation_batches()])
        assert len(labels) == settings.views * (samples.split == "val").sum() and labels.max() == 2


@pytest.mark.parametrize("views, different", [(2, 2), (0, 3)])
def test_views_are_met_in_turn_and_without_any_each_epoch_meets_a_new_one(views, different, settings, samples):
    phase, sums = Phase("head", settings.replace(views=views), samples, False, ALONE), set()
    for phase.epoch in range(3):
        features = torch.cat([batch[0] for batch in phase._training_batches()])
        sums.add(round(float(features.double().sum()), 6))  # in another order
    assert len(sums) == different
    assert len(list((settings.run / "features").glob("*"))) == views


def test_both_phases_share_their_features_and_leave_none_behind(settings, samples, monkeypatch):
    made, make = [], FrozenFeatures._pass_view
    monkeypatch.setattr(FrozenFeatures, "_pass_view", lambda self, *rest: (made.append(1), make(self, *rest)))
    train("head", settings, samples)
    assert len(made) == 2 * settings.views
    train("finetune", settings, samples)
    assert len(made) == 2 * settings.views and not (settings.run / "features").exists()


@pytest.fixture
def ten():
    """Ten random inputs of 4 numbers, their classes, weights of the three classes, and a network."""
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 0, 0, 1, 2, 2, 1, 0])
    return torch.randn(10, 4), labels, torch.tensor([0.5, 1.0, 3.0]), nn.Linear(4, 3)


def test_metrics_are_means_over_samples_with_a_short_last_batch(ten):
    inputs, labels, weights, module = ten
    summed = nn.CrossEntropyLoss(weights, reduction="sum", label_smoothing=0.3)
    loss, accuracy = run_epoch(module, zip(inputs.split(4), labels.split(4)), summed)  # 4, 4 and 2
    logits = module(inputs)
    expected = functional.cross_entropy(logits, labels, weights, label_smoothing=0.3)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_an_epoch_without_scheduler_changes_nothing(ten):
    inputs, labels, weights, _ = ten
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    loss = nn.CrossEntropyLoss(weights, reduction="sum")
    assert len({run_epoch(module, [(inputs, labels)], loss) for _ in range(3)}) == 1
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_step_follows_the_weighted_mean_gradient_of_its_batch(ten):
    inputs, labels, weights, module = ten
    start = module.weight.detach().clone()
    scheduler = ConstantLR(torch.optim.SGD(module.parameters(), lr=0.1), 1.0)
    expected = torch.autograd.grad(functional.cross_entropy(module(inputs), labels, weights), module.weight)[0]
    run_epoch(module, [(inputs, labels)], nn.CrossEntropyLoss(weights, reduction="sum"), scheduler)
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
