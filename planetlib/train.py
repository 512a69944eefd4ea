"""The two phases of transfer learning: a head on a frozen backbone, then the backbone's tail with it.

A run folder receives, for each phase, `<phase>.safetensors` (the best checkpoint) and `<phase>_state.pt` (where it
stands, to go on from), and for both `history.csv` and `tensorboard/`. Whatever is random in an epoch is seeded by
(seed, phase, epoch), so a run that was killed and resumed ends with the same weights, to the last bit, as one that was
left alone.
"""

import math
import reprlib
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from planetlib import PlanetlibError, list_few, require_known
from planetlib.calibrate import calibrate
from planetlib.checkpoint import CARD, PHASES, Checkpoint
from planetlib.data import make_loader
from planetlib.features import FrozenFeatures, clear_features, outlier_kinds
from planetlib.files.progress import progress_bar
from planetlib.files.tables import DataError, fingerprint_samples, write_table
from planetlib.files.tensors import CheckpointError, read_state, write_state
from planetlib.model import Network, Tail
from planetlib.nets.device import choose_device, use_precision
from planetlib.nets.folding import fold_shared
from planetlib.nets.processes import ALONE, Processes
from planetlib.settings import Settings
from planetlib.transforms import RECIPES

HISTORY = "phase epoch learning_rate train_loss train_accuracy val_loss val_accuracy seconds".split()
SPLITS = ("train", "val")


def train_phase(
    phase: str,
    settings: Settings,
    samples: pd.DataFrame,
    resume: bool = False,
    progress: bool = True,
    processes: Processes = ALONE,
) -> tuple[pd.DataFrame, bool]:
    """Trains one phase, keeps its best checkpoint, by validation loss, and calibrates it.

    An interrupt (Ctrl-C, the stop button) ends the phase after saying what is kept and how to go on.

    Args:
        phase: `head`, or `finetune`, which starts from the best checkpoint of `head`.
        settings: see `Settings`.
        samples: the samples table.
        resume: go on from where the run folder stands; otherwise the phase, and what came after it, starts anew.
        progress: show bars.
        processes: that share the work; by default this one alone.

    Returns:
        History of the run so far, one row for each epoch: `phase, epoch, learning_rate, train_loss, train_accuracy,
        val_loss, val_accuracy, seconds`. Losses and accuracies are means over samples, not over batches, those of
        validation over augmented views of the pictures of the classes. And whether it was interrupted.

    Raises:
        DataError: the table lacks training or validation pictures of a class.
        CheckpointError: `finetune` before `head`, or resumed with other settings or data.
        PlanetlibError: a loss is no number, memory is too small, or several processes cannot share this training.
    """
    run = Phase(phase, settings, samples, progress, processes)
    if resume and run.state_path.is_file():
        run.restore()
    else:
        run.clear()
    try:
        run.train()
        run.finish()
    except torch.OutOfMemoryError as error:
        raise PlanetlibError(
            f"{run.device}: got too little memory for steps of {settings.batch_size} pictures; {run.say_kept()}",
            do="lower batch_size (--batch-size) or image_size (--image-size), or train on the device 'cpu'",
        ) from error
    except KeyboardInterrupt:
        said = f"Interrupted after epoch {run.epoch} of {run.epochs} of phase '{phase}'; {run.say_kept()}."
        print(f"{said} Train with resume (--resume) to go on.", file=sys.stderr)
        return run.history, True
    return run.history, False


def run_epoch(
    module: nn.Module,
    batches: Iterable,
    loss: nn.CrossEntropyLoss,
    scheduler: LRScheduler | None = None,
    precision: str = "float32",
    processes: Processes = ALONE,
) -> tuple[float, float]:
    """One pass over the batches, for training (with a scheduler) and for validation (without).

    Of several processes each takes its share of every batch; gradients and results are those of the whole batches.

    Args:
        module: inputs → logits (B, outputs).
        batches: of inputs, one or more, and class numbers (B,).
        loss: with the weight of each class (outputs,) and the reduction `sum`.
        scheduler: of the learning rate of the optimiser that trains; both step after each batch.
        precision: see `use_precision`.
        processes: that share the work; by default this one alone.

    Returns:
        Weighted mean of the cross entropy and accuracy (0–1), over all samples.

    Raises:
        FloatingPointError: the loss of a step is no number, or infinite; the message says of which.
    """
    class_weights, trains = loss.get_buffer("weight"), scheduler is not None
    device = class_weights.device
    module.train(trains)
    sums: list[Tensor] = []
    for batch in processes.take_share(batches):
        *inputs, labels = (part.to(device, non_blocking=True) for part in batch)
        with torch.set_grad_enabled(trains), use_precision(precision, device):
            logits = module(*inputs).float()
        weighted = loss(logits, labels)
        if not math.isfinite(value := weighted.item()):
            raise FloatingPointError(f"{value} in {f'step {len(sums) + 1}' if trains else 'validation'}")
        weight = class_weights[labels].sum()
        if scheduler is not None:
            scheduler.optimizer.zero_grad()
            # The mean over processes, which is taken of gradients, becomes the sum again.
            (weighted * processes.count / processes.add_up(weight.clone())).backward()
            scheduler.optimizer.step()
            scheduler.step()
        right = (logits.argmax(1) == labels).sum()
        sums.append(torch.stack([weighted.detach(), weight, right, torch.ones_like(labels).sum()]))
    total = processes.add_up(torch.stack(sums).cpu().double().sum(0))
    loss_sum, weight_sum, correct, samples = total.tolist()
    return loss_sum / weight_sum, correct / samples


def make_schedule(optimiser: torch.optim.Optimizer, steps: int, warmup: float) -> LRScheduler:
    """Learning rate over `steps`: linear rise during the share `warmup`, then a cosine down to zero."""
    rise = max(1, round(steps * warmup))
    parts = [LinearLR(optimiser, 0.01, total_iters=rise), CosineAnnealingLR(optimiser, max(1, steps - rise))]
    return SequentialLR(optimiser, parts, [rise])


class Phase:
    """One phase of a training: what it trains, on what, and where it stands."""

    def __init__(self, phase: str, settings: Settings, samples: pd.DataFrame, progress: bool, processes: Processes):
        require_known("phase", phase, PHASES)
        processes.require_fit(settings)
        self.phase, self.settings, self.progress, self.processes = phase, settings, progress, processes
        self.run, self.device = Path(settings.run), choose_device(settings.device)
        self.best_path, self.state_path = self.run / f"{phase}.safetensors", self.run / f"{phase}_state.pt"
        self.class_names = sorted(samples.label.unique())
        for split in SPLITS:
            if missing := set(self.class_names) - set(samples.label[samples.split == split]):
                got = f"got no '{split}' pictures of {list_few(missing)}; expected some of each class"
                raise DataError(got, do="split the samples anew ('planetlib data split')")
        self.choices = {**settings.recipe_choices(), "data": fingerprint_samples(samples)}

        torch.manual_seed(settings.seed)  # the head's first weights
        self.model = self._make_model() if phase == "head" else self._take_up_head()
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.train_features, self.val_features = (
            FrozenFeatures(split, settings, samples, self.model, progress) for split in SPLITS
        )
        self.views: dict[int, TensorDataset] = {}

        self.trained: nn.Module = self.model.head if phase == "head" else self.model
        free = [parameter for parameter in self.trained.parameters() if parameter.requires_grad]
        numbers = self.train_features.labels.numpy()
        self.steps = math.ceil(len(numbers) / settings.batch_size)  # of an epoch
        self.epochs = getattr(settings, f"{phase}_epochs")
        self.optimiser = torch.optim.AdamW(free, getattr(settings, f"{phase}_lr"), weight_decay=settings.weight_decay)
        self.scheduler = make_schedule(self.optimiser, self.steps * self.epochs, settings.warmup)
        weights = compute_class_weight("balanced", classes=np.unique(numbers), y=numbers)
        self.loss = nn.CrossEntropyLoss(
            torch.tensor(weights, dtype=torch.float32, device=self.device),
            reduction="sum",
            label_smoothing=settings.label_smoothing,
        )

        path = self.run / "history.csv"
        self.history = pd.DataFrame({"phase": [""], "epoch": [0]})[:0]  # no rows, but types: epochs are whole numbers
        with suppress(FileNotFoundError, ValueError):  # it may be damaged
            if list(written := pd.read_csv(path)) == HISTORY:  # else of another version
                self.history = written
        self.epoch, self.best_epoch, self.best_loss = 0, 0, float("inf")

    def _make_model(self) -> Network:
        """The pretrained backbone, all of it frozen, with a new head."""
        settings = self.settings
        outputs = len(self.class_names) + len(outlier_kinds(self.class_names, settings))
        return Network(settings.backbone, outputs, settings.head, settings.weights)

    def _take_up_head(self) -> Network:
        """The network of the phase head, its tail free."""
        path = self.run / "head.safetensors"
        if not path.is_file():
            raise CheckpointError(f"{path}: not there; the phase finetune starts from it", do="train the head first")
        checkpoint = Checkpoint.load(path)
        # The rest may change between the phases.
        decided = ("backbone", "head", "image_size", "recipe", "data")
        self._require_same({**checkpoint.recipe, "data": checkpoint.data_fingerprint}, decided)
        model = checkpoint.build_model()
        model.set_free_stages(model.last_stages(self.settings.free_stages), self.settings.norm)
        return model

    def clear(self) -> None:
        """Forgets what this phase, and those after it, left in the run folder."""
        self._forget(PHASES[PHASES.index(self.phase) :])
        if self.phase == PHASES[0]:
            clear_features(self.run)
        self.processes.wait()

    def _forget(self, phases: Iterable[str]) -> None:
        for phase in phases:
            for name in (f"{phase}.safetensors", f"{phase}_state.pt", CARD):
                (self.run / name).unlink(missing_ok=True)
            self.history = self.history[self.history.phase != phase]

    def restore(self) -> None:
        """Takes up the state of the last whole epoch."""
        if not self.best_path.is_file():
            said = f"{self.best_path}: not there, though where its training stands is; expected both"
            raise CheckpointError(said, do="--overwrite starts anew")
        state = read_state(self.state_path)
        try:
            self._require_same(state["choices"], self.choices)
            self.trained.load_state_dict(state["trained"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.epoch, self.best_epoch, self.best_loss = state["epoch"], state["best_epoch"], state["best_loss"]
            history = pd.DataFrame(state["history"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            got = f"{self.state_path}: got another state ({reprlib.repr(str(error))}); expected one of such a training"
            raise CheckpointError(got, do="--overwrite starts anew") from error
        later = PHASES[PHASES.index(self.phase) + 1 :]
        if not self._is_over():
            self._forget(later)  # it grew from what now changes
        written = len(self.history)
        self.history = pd.concat([history, self.history[self.history.phase.isin(later)]], ignore_index=True)
        if written < len(self.history):  # killed between the two files
            write_table(self.history, self.run / "history.csv")

    def train(self) -> None:
        """Runs the epochs that are left, unless the phase has ended or stopped early."""
        if self._is_over():
            return
        for features in (self.train_features, self.val_features):
            self.processes.share_out(features)
        module: nn.Module = self.model.head
        if self.phase != "head":
            model = fold_shared(self.model) if self.settings.norm == "frozen" else self.model
            module = Tail(model, self.train_features.tail)
        module = self.processes.share_gradients(module)
        # Of depthwise convolutions, processors pass bfloat16 forwards quicker than float32, but backwards slower.
        slow = self.phase == "head" or (self.device.type == "cpu" and self.settings.precision == "auto")
        precision = "float32" if slow else self.settings.precision
        validation = self._validation_batches()
        steps = {"total": self.epochs * self.steps, "initial": self.epoch * self.steps}
        bar = progress_bar(None, self.progress, desc=self.phase, unit="step", **steps)
        place = self.run / "tensorboard" / self.phase
        with bar, nullcontext() if self.processes.rank else SummaryWriter(place, purge_step=self.epoch + 1) as log:
            while not self._is_over():
                started = time.perf_counter()
                batches = _count(self._training_batches(), bar)  # may make a view, and so use up random numbers
                torch.manual_seed(self._seed() + self.processes.rank)  # dropout
                learning_rate = float(self.scheduler.get_last_lr()[0])
                try:
                    train = run_epoch(module, batches, self.loss, self.scheduler, precision, self.processes)
                    val = run_epoch(module, validation, self.loss, None, precision, self.processes)
                except FloatingPointError as error:
                    rate = f"{self.phase}_lr"
                    raise PlanetlibError(
                        f"got the loss {error} of epoch {self.epoch + 1} of phase '{self.phase}', expected a number; "
                        f"{self.say_kept()}",
                        do=f"lower {rate} (--{rate.replace('_', '-')}), now {getattr(self.settings, rate)}",
                    ) from error
                self._keep([learning_rate, *train, *val, time.perf_counter() - started])
                if log is not None:
                    self._log(log)
                bar.set_postfix_str(f"validation: loss {val[0]:.3f}, accuracy {val[1]:.1%}", refresh=False)

    def finish(self) -> None:
        """Calibrates the checkpoint, unless that is done; an interrupt leaves it to be done."""
        if self.processes.rank == 0:
            checkpoint = Checkpoint.load(self.best_path)
            if not checkpoint.calibration:
                calibrate(checkpoint, self.train_features, self.val_features).save(self.best_path)
            if self.phase == PHASES[-1]:
                clear_features(self.run)
        self.processes.wait()

    def say_kept(self) -> str:
        """What a phase that stops now leaves."""
        return f"its best checkpoint is {self.best_path}" if self.best_path.exists() else "nothing is kept yet"

    def _training_batches(self) -> DataLoader:
        """The view of this epoch, shuffled."""
        features = self.train_features
        number = self.epoch % len(features.numbers) if features.kept else self.epoch
        if number not in self.views:
            if not features.kept:
                self.views.clear()
            self.views[number] = self._load(features, number)
        return make_loader(self.views[number], self.settings.batch_size, self._seed(), device=self.device)

    def _validation_batches(self) -> DataLoader:
        # Plain validation pictures are nearly all right after the first epoch; augmented ones still tell epochs apart,
        # and are nearer to pictures from elsewhere. The outliers among them are for the detector's threshold.
        features = self.val_features
        of_a_class = (features.labels < len(self.class_names)).nonzero()[:, 0].tolist()
        views = [Subset(self._load(features, number), of_a_class) for number in features.numbers]
        return make_loader(ConcatDataset(views), self.settings.batch_size, device=self.device)

    def _load(self, features: FrozenFeatures, number: int) -> TensorDataset:
        """A view as the trained part takes it: features for the head, maps for the tail; and class numbers."""
        if self.phase != "head":
            return features.load(number)
        return TensorDataset(features.embed(number, self.model)[0], features.labels)

    def _keep(self, numbers: list[float]) -> None:
        """Writes down an epoch: its row of the history, and the checkpoint where it is the best so far."""
        self.epoch += 1
        row = pd.DataFrame([[self.phase, self.epoch, *numbers]], columns=HISTORY)
        self.history = pd.concat([self.history, row], ignore_index=True)
        val_loss = row.val_loss.item()
        is_best = val_loss < self.best_loss
        if is_best:
            self.best_epoch, self.best_loss = self.epoch, val_loss
        if self.processes.rank:
            return
        if is_best:
            self._make_checkpoint(row).save(self.best_path)
        state = {name: getattr(self, name) for name in ("choices", "epoch", "best_epoch", "best_loss")}
        state |= {name: getattr(self, name).state_dict() for name in ("trained", "optimiser", "scheduler")}
        write_state({**state, "history": self.history.to_dict("list")}, self.state_path)
        write_table(self.history, self.run / "history.csv")

    def _make_checkpoint(self, row: pd.DataFrame) -> Checkpoint:
        settings = self.settings
        return Checkpoint(
            backbone=settings.backbone,
            head=settings.head,
            class_names=self.class_names,
            outlier_kinds=outlier_kinds(self.class_names, settings),
            image_size=settings.image_size or self.model.image_size,
            fit=RECIPES[settings.recipe],
            state_dict=self.model.state_dict(),
            phase=self.phase,
            epoch=self.epoch,
            metrics={name: row[name].item() for name in ("val_loss", "val_accuracy")},
            recipe=settings.recipe_choices(),
            data_fingerprint=self.choices["data"],
        )

    def _log(self, log: SummaryWriter) -> None:
        if self.epoch == 1 and self.phase == "head":
            data = self.train_features.augment_files(0)
            examples = torch.stack([data[index][0] for index in range(min(16, len(data)))])
            log.add_images("augmented training images", examples, self.epoch)
        for name, value in self.history.iloc[-1].drop(["phase", "epoch"]).items():
            log.add_scalar(name, value, self.epoch)

    def _is_over(self) -> bool:
        return self.epoch >= self.epochs or self.epoch - self.best_epoch >= self.settings.patience

    def _seed(self) -> int:
        seed = [self.settings.seed, PHASES.index(self.phase), self.epoch]
        return int(np.random.SeedSequence(seed).generate_state(1)[0])

    def _require_same(self, earlier: dict, names: Iterable[str]) -> None:
        """Raises CheckpointError where the run folder was made with other data or choices."""
        differing = [name for name in names if self.choices[name] != earlier.get(name)]
        if differing:
            was = ", ".join(f"{name} {earlier.get(name)} (now {self.choices[name]})" for name in differing)
            raise CheckpointError(f"{self.run}: was made with {was}", do="take the same, or another run folder")


def _count(batches: Iterable, bar) -> Iterable:
    for batch in batches:
        yield batch
        bar.update()
