"""The pieces of the training loop: one pass over the data, and the learning rate."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from planetlib.distributed import add_up, find_rank, take_share
from planetlib.model import use_precision


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
