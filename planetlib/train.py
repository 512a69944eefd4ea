"""The two stages of transfer learning: a head on a frozen backbone, then the backbone's tail with it.

A run folder receives, for each stage, `<stage>.pt` (the best checkpoint) and `<stage>_state.pt` (where it stands, to go
on from), and for both `history.csv` and `tensorboard/`. Whatever is random in an epoch is seeded by (seed, stage,
epoch), so a run that was killed and resumed ends with the same weights, to the last bit, as one that was left alone.
Several processes (`torchrun --nproc-per-node=2 -m -- planetlib train …`) share every batch; the first of them writes.
"""

import sys

import pandas as pd
import torch

from planetlib import PlanetlibError
from planetlib.distributed import is_first, wait_for_all
from planetlib.settings import Settings
from planetlib.stage import StageRun


def train_stage(
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
    run = StageRun(stage, settings, samples, progress)
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
