"""The two stages of transfer learning: a head on a frozen backbone, then the backbone's tail with it.

A run folder receives, for each stage, `<stage>.pt` (the best checkpoint) and `<stage>_state.pt` (where it stands, to go
on from), and for both `history.csv` and `tensorboard/`. Whatever is random in an epoch is seeded by (seed, stage,
epoch), so a run that was killed and resumed ends with the same weights, to the last bit, as one that was left alone.
Several processes (`torchrun --nproc-per-node=2 -m -- planetlib train …`) share every batch; the first of them writes.
"""

import math
import reprlib
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from planetlib import PlanetlibError, require_known
from planetlib.batch.processes import add_up, find_rank, is_first, share_gradients, take_share, wait_for_all
from planetlib.calibrate import calibrate
from planetlib.checkpoint import STAGES, Checkpoint, CheckpointError, read_torch, write_torch
from planetlib.data import make_loader, progress_bar
from planetlib.features import FrozenFeatures, clear_features, outlier_kinds
from planetlib.files.tables import DataError, fingerprint_samples, write_table
from planetlib.model import Network, Tail, choose_device, use_precision
from planetlib.settings import Settings
from planetlib.show.card import CARD, write_card
from planetlib.transforms import RECIPES


def train_phase(
    stage: str, settings: Settings, samples: pd.DataFrame, resume: bool = False, progress: bool = True
) -> pd.DataFrame:
    """Trains one stage, keeps its best checkpoint, by validation loss, and calibrates it.

    An interrupt (Ctrl-C, the stop button) ends the stage after saying what is kept and how to go on.

    Args:
        stage: `head`, or `finetune`, which starts from the best checkpoint of `head`.
        settings: see `Settings`.
        samples: the samples table.
        resume: go on from where the run folder stands; otherwise the stage, and what came after it, starts anew.
        progress: show bars.

    Returns:
        History of the run so far, one row for each epoch: `stage, epoch, learning_rate, train_loss, train_accuracy,
        val_loss, val_accuracy, seconds`. Losses and accuracies are means over samples, not over batches, those of
        validation over augmented views of the pictures of the classes. After an interrupt `attrs["interrupted"]` is
        set.

    Raises:
        DataError: the table has no training or validation pictures.
        CheckpointError: `finetune` before `head`, or resumed with other settings or data.
    """
    run = Phase(stage, settings, samples, progress)
    if resume:
        run.restore()
    else:
        run.clear()
    try:
        run.train()
        if is_first():
            run.finish()
        wait_for_all()
    except torch.OutOfMemoryError as error:
        raise PlanetlibError(
            f"{run.device}: too little memory for steps of {settings.batch_size} pictures; expected room for them: "
            "lower batch_size (--batch-size) or image_size (--image-size), or train on the device 'cpu'; "
            + run.say_kept()
        ) from error
    except KeyboardInterrupt:
        print(f"Interrupted after epoch {run.epoch} of {run.epochs} of stage '{stage}'; {run.say_kept()}. "
              "Train with resume (--resume) to go on.", file=sys.stderr)  # fmt: skip
        run.history.attrs["interrupted"] = True
    return run.history


def run_epoch(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    class_weights: Tensor,
    optimiser: torch.optim.Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    precision: str = "float32",
    label_smoothing: float = 0.0,
) -> tuple[float, float]:
    """One pass over the batches, for training (with an optimiser) and for validation (without).

    Of several processes each takes its share of every batch; gradients and results are those of the whole batches.

    Args:
        module: inputs → logits (B, outputs).
        batches: of inputs, one or more, and class numbers (B,).
        class_weights: (outputs,); a sample's loss counts as much as its class weighs.
        optimiser: of the free parameters.
        scheduler: stepped after each batch.
        precision: see `use_precision`.
        label_smoothing: share of each target that is spread over all classes.

    Returns:
        Weighted mean of the cross entropy and accuracy (0–1), over all samples.

    Raises:
        FloatingPointError: the loss of a step is no number, or infinite; the message says of which.
    """
    device = class_weights.device
    module.train(optimiser is not None)
    count = find_rank()[1]
    sums: list[Tensor] = []
    for batch in take_share(batches):
        *inputs, labels = (part.to(device, non_blocking=True) for part in batch)
        with torch.set_grad_enabled(optimiser is not None), use_precision(precision, device):
            logits = module(*inputs).float()
        weighted = functional.cross_entropy(
            logits, labels, class_weights, reduction="sum", label_smoothing=label_smoothing
        )
        if not math.isfinite(loss := weighted.item()):
            raise FloatingPointError(f"{loss} in {'validation' if optimiser is None else f'step {len(sums) + 1}'}")
        weight = class_weights[labels].sum()
        if optimiser is not None:
            optimiser.zero_grad()
            # The mean over processes, which DistributedDataParallel takes of gradients, becomes the sum again.
            (weighted * count / add_up(weight.clone())).backward()
            optimiser.step()
            scheduler.step()  # type: ignore[union-attr]
        right = (logits.argmax(1) == labels).sum()
        sums.append(torch.stack([weighted.detach(), weight, right, torch.ones_like(labels).sum()]))
    loss_sum, weight_sum, correct, samples = add_up(torch.stack(sums).cpu().double().sum(0)).tolist()
    return loss_sum / weight_sum, correct / samples


def make_schedule(optimiser: torch.optim.Optimizer, steps: int, warmup: float) -> LRScheduler:
    """Learning rate over `steps`: linear rise during the share `warmup`, then a cosine down to zero."""
    rise = max(1, round(steps * warmup))
    parts = [LinearLR(optimiser, 0.01, total_iters=rise), CosineAnnealingLR(optimiser, max(1, steps - rise))]
    return SequentialLR(optimiser, parts, [rise])


class Phase:
    """A stage of training; see `planetlib.train` for what it leaves in the run folder."""

    def __init__(self, stage: str, settings: Settings, samples: pd.DataFrame, progress: bool):
        require_known("stage", stage, STAGES)
        stage = sys.intern(stage)  # equal checkpoints, equal files: pickle writes a string met again as a reference
        require_known("recipe", settings.recipe, RECIPES)
        self.stage, self.settings, self.samples, self.progress = stage, settings, samples, progress
        self.device, self.run = choose_device(settings.device), Path(settings.run)
        self.best_path, self.state_path = self.run / f"{stage}.pt", self.run / f"{stage}_state.pt"
        self.epochs = getattr(settings, f"{stage}_epochs")
        self.class_names = sorted(samples.label.unique())
        self.choices = {**settings.recipe_choices(), "data": fingerprint_samples(samples)}
        for split in ("train", "val"):
            if missing := set(self.class_names) - set(samples.label[samples.split == split]):
                names = ", ".join(sorted(missing))
                raise DataError(f"no '{split}' pictures of: {names}; split the samples anew ('planetlib data split')")

        torch.manual_seed(settings.seed)  # the head's first weights
        self.kinds = outlier_kinds(self.class_names, settings)
        self.trained: torch.nn.Module
        if stage == "head":
            outputs = len(self.class_names) + len(self.kinds)
            self.model = Network(settings.backbone, outputs, settings.head, settings.weights)
            self.trained, lr = self.model.head, settings.head_lr
        else:
            self.model = self._load_head().build_model()
            self.model.set_free_stages(self.model.last_stages(settings.free_stages), settings.norm)
            self.trained, lr = self.model, settings.finetune_lr
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        free = [parameter for parameter in self.trained.parameters() if parameter.requires_grad]
        self.views = {
            split: FrozenFeatures(split, settings, samples, self.model, progress) for split in ("train", "val")
        }
        numbers = self.views["train"].labels.numpy()
        self.steps = math.ceil(len(numbers) / settings.batch_size)  # of an epoch
        self.optimiser = torch.optim.AdamW(free, lr, weight_decay=settings.weight_decay)
        self.scheduler = make_schedule(self.optimiser, self.steps * self.epochs, settings.warmup)
        weights = compute_class_weight("balanced", classes=np.unique(numbers), y=numbers)
        self.class_weights = torch.tensor(weights, dtype=torch.float32, device=self.device)

        history = self.run / "history.csv"
        blank = pd.DataFrame({"stage": [""], "epoch": [0]})[:0]  # no rows, but types: epochs stay whole numbers
        self.history = pd.read_csv(history) if history.is_file() else blank
        self.epoch, self.best_epoch, self.best_loss = 0, 0, float("inf")

    def clear(self) -> None:
        """Forgets what this stage, and those after it, left in the run folder."""
        for stage in STAGES[STAGES.index(self.stage) :]:
            self._forget(stage)
        if self.stage == STAGES[0]:
            clear_features(self.run)
        wait_for_all()

    def _forget(self, stage: str) -> None:
        for path in (self.run / f"{stage}.pt", self.run / f"{stage}_state.pt", self.run / CARD):
            path.unlink(missing_ok=True)
        self.history = self.history[self.history.stage != stage]

    def restore(self) -> None:
        """Takes up the state of the last whole epoch, where there is one."""
        if not self.state_path.is_file():
            return self.clear()
        state = read_torch(self.state_path)
        try:
            self._require_same(state["choices"], self.choices)
            self.trained.load_state_dict(state["trained"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.epoch, self.best_epoch, self.best_loss = state["epoch"], state["best_epoch"], state["best_loss"]
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.state_path}: got another state ({reprlib.repr(str(error))}); expected one that training wrote: "
                "--overwrite starts anew"
            ) from error
        later = STAGES[STAGES.index(self.stage) + 1 :]
        if not self._is_over():
            for stage in later:
                self._forget(stage)  # it grew from what now changes
        rest = self.history[self.history.stage.isin(later)]
        written, self.history = self.history, pd.concat([pd.DataFrame(state["history"]), rest], ignore_index=True)
        if len(written) < len(self.history):  # killed between the two files
            write_table(self.history, self.run / "history.csv")

    def train(self) -> None:
        """Runs the epochs that are left, unless the stage has ended or stopped early."""
        if self._is_over():
            return
        module: torch.nn.Module = self.trained if self.stage == "head" else Tail(self.model, self.views["train"].tail)
        module = share_gradients(module, self.settings.norm)
        batches, validation = self._make_batches()
        # Of depthwise convolutions, processors pass bfloat16 forwards quicker than float32, but backwards slower.
        slow = self.stage == "head" or (self.device.type == "cpu" and self.settings.precision == "auto")
        precision = "float32" if slow else self.settings.precision
        steps = {"total": self.epochs * self.steps, "initial": self.epoch * self.steps}
        bar = progress_bar(None, self.progress, desc=self.stage, unit="step", **steps)
        place = self.run / "tensorboard" / self.stage
        with bar, SummaryWriter(place, purge_step=self.epoch + 1) if is_first() else nullcontext() as writer:
            while not self._is_over():
                started = time.perf_counter()
                counted = _count(batches(self.epoch), bar)  # may compute a view, and so use up random numbers
                torch.manual_seed(self._seed(self.epoch) + find_rank()[0])  # dropout
                learning_rate = self.scheduler.get_last_lr()[0]
                options: dict[str, Any] = {"precision": precision, "label_smoothing": self.settings.label_smoothing}
                try:
                    train = run_epoch(module, counted, self.class_weights, self.optimiser, self.scheduler, **options)
                    val = run_epoch(module, validation, self.class_weights, **options)
                except FloatingPointError as error:
                    rate = f"{self.stage}_lr"
                    raise PlanetlibError(
                        f"got the loss {error} of epoch {self.epoch + 1} of stage '{self.stage}', expected a number: "
                        f"lower {rate} (--{rate.replace('_', '-')}), now {getattr(self.settings, rate)}; "
                        + self.say_kept()
                    ) from error
                self._keep(learning_rate, train, val, time.perf_counter() - started)
                if is_first():
                    self._log(cast(SummaryWriter, writer))
                bar.set_postfix_str(f"validation: loss {val[0]:.3f}, accuracy {val[1]:.1%}")

    def finish(self) -> None:
        """Calibrates the checkpoint and writes its card, unless that is done; an interrupt leaves it to be done."""
        checkpoint = Checkpoint.load(self.best_path)
        if not checkpoint.calibration:
            checkpoint = calibrate(checkpoint, self.settings, self.samples, self.progress)
            write_card(self.run, checkpoint, self.samples, self.settings)
            checkpoint.save(self.best_path)
        if self.stage == STAGES[-1]:
            clear_features(self.run)

    def say_kept(self) -> str:
        """What a stage that stops now leaves."""
        return f"its best checkpoint is {self.best_path}" if self.best_path.exists() else "nothing is kept yet"

    def _make_batches(self) -> tuple[Callable[[int], DataLoader], DataLoader]:
        """A function from epoch to training batches, and the validation batches.

        Stage one trains on features, stage two on the maps that its free stages are given.
        """
        train, val = self.views.values()
        train.share_out()
        val.share_out()
        load = self._load_features if self.stage == "head" else FrozenFeatures.load
        # Plain validation pictures are nearly all right after the first epoch; augmented ones still tell epochs apart,
        # and are nearer to pictures from elsewhere. The outliers among them are for the detector's threshold.
        known: Any = (val.labels < len(self.class_names)).nonzero()[:, 0]
        validation: ConcatDataset = ConcatDataset([Subset(load(val, number), known) for number in val.numbers])
        loaded = lru_cache(maxsize=None if train.kept else 1)(partial(load, train))

        def batches(epoch: int) -> DataLoader:
            number = epoch % len(train.numbers) if train.kept else epoch
            return make_loader(loaded(number), self.settings.batch_size, self._seed(epoch), device=self.device)

        return batches, make_loader(validation, self.settings.batch_size, device=self.device)

    @staticmethod
    def _load_features(views: FrozenFeatures, number: int) -> TensorDataset:
        return TensorDataset(views.embed(number)[0], views.labels)

    def _keep(self, learning_rate: float | torch.Tensor, train: tuple, val: tuple, seconds: float) -> None:
        self.epoch += 1
        row = [self.stage, self.epoch, learning_rate, *train, *val, seconds]
        names = "stage epoch learning_rate train_loss train_accuracy val_loss val_accuracy seconds".split()
        self.history = pd.concat([self.history, pd.DataFrame([row], columns=names)], ignore_index=True)
        better = val[0] < self.best_loss
        if better:
            self.best_epoch, self.best_loss = self.epoch, val[0]
        if not is_first():
            return
        if better:
            self._make_checkpoint(val).save(self.best_path)
        state = {
            "choices": self.choices,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
        }
        state |= {name: getattr(self, name).state_dict() for name in ("trained", "optimiser", "scheduler")}
        write_torch({**state, "history": self.history.to_dict("list")}, self.state_path)
        write_table(self.history, self.run / "history.csv")

    def _make_checkpoint(self, val: tuple[float, float]) -> Checkpoint:
        settings = self.settings
        return Checkpoint(
            backbone=settings.backbone,
            head=settings.head,
            class_names=self.class_names,
            outlier_kinds=self.kinds,
            image_size=settings.image_size or self.model.image_size,
            fit=RECIPES[settings.recipe],
            state_dict={name: value.cpu() for name, value in self.model.state_dict().items()},
            stage=self.stage,
            epoch=self.epoch,
            metrics={"val_loss": val[0], "val_accuracy": val[1]},
            recipe=settings.recipe_choices(),
            data_fingerprint=self.choices["data"],
        )

    def _log(self, writer: SummaryWriter) -> None:
        if self.epoch == 1 and self.stage == "head":
            data = self.views["train"].data
            examples = torch.stack([data[index][0] for index in range(min(16, len(data)))])
            writer.add_images("augmented training images", examples, self.epoch)
        for name, value in self.history.iloc[-1].drop(["stage", "epoch"]).items():
            writer.add_scalar(name, value, self.epoch)

    def _is_over(self) -> bool:
        return self.epoch >= self.epochs or self.epoch - self.best_epoch >= self.settings.patience

    def _seed(self, epoch: int) -> int:
        return int(np.random.SeedSequence([self.settings.seed, STAGES.index(self.stage), epoch]).generate_state(1)[0])

    def _load_head(self) -> Checkpoint:
        path = self.run / "head.pt"
        if not path.is_file():
            raise CheckpointError(f"{path}: not there; stage 'finetune' starts from stage 'head': train that first")
        checkpoint = Checkpoint.load(path)
        kept = ("backbone", "head", "image_size", "recipe", "data")  # the rest may change between the stages
        self._require_same({**checkpoint.recipe, "data": checkpoint.data_fingerprint}, kept)
        return checkpoint

    def _require_same(self, earlier: dict, keys: Iterable[str]) -> None:
        """Raises CheckpointError where the run folder was made with other data or choices."""
        differing = [key for key in keys if self.choices[key] != earlier.get(key)]
        if differing:
            was = ", ".join(f"{key} {earlier.get(key)} (now {self.choices[key]})" for key in differing)
            raise CheckpointError(f"{self.run}: was made with {was}; take the same, or another run folder")


def _count(batches: Iterable, bar) -> Iterable:
    for batch in batches:
        yield batch
        bar.update()
