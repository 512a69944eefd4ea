"""The pieces of the training loop: one pass over the data, features of a frozen backbone, the learning rate."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.utils.data import TensorDataset

from planetlib.model import PlanetClassifier, use_precision


def run_epoch(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    class_weights: Tensor,
    optimiser: torch.optim.Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    precision: str = "float32",
    label_smoothing: float = 0.0,
) -> tuple[float, float]:
    """One pass over the batches, for training (with an optimiser) and for validation (without).

    Args:
        module: inputs → logits (B, classes).
        batches: of inputs and class numbers (B,).
        class_weights: (classes,); a sample's loss counts as much as its class weighs.
        optimiser: of the free parameters.
        scheduler: stepped after each batch.
        precision: see `use_precision`.
        label_smoothing: share of each target that is spread over all classes.

    Returns:
        Weighted mean of the cross entropy and accuracy (0–1), over all samples.
    """
    device = class_weights.device
    module.train(optimiser is not None)
    loss_sum = weight_sum = correct = count = 0.0
    for inputs, labels in batches:
        inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        with torch.set_grad_enabled(optimiser is not None), use_precision(precision, device):
            logits = module(inputs).float()
        weighted = functional.cross_entropy(
            logits, labels, class_weights, reduction="sum", label_smoothing=label_smoothing
        )
        weight = class_weights[labels].sum()
        if optimiser is not None:
            optimiser.zero_grad()
            (weighted / weight).backward()
            optimiser.step()
            scheduler.step()
        loss_sum, weight_sum = loss_sum + weighted.item(), weight_sum + weight.item()
        correct, count = correct + (logits.argmax(1) == labels).sum().item(), count + len(labels)
    return loss_sum / weight_sum, correct / count


def interpolate_weights(start: nn.Module, end: nn.Module, share: float) -> dict[str, Tensor]:
    """The state between two models of one shape, `share` of the way from the first to the second.

    Between a head on pretrained features and the fine-tuned model lies one that knows the new pictures and
    has not forgotten the old ones (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).
    """
    ends = end.state_dict()
    return {
        name: value.lerp(ends[name], share) if value.is_floating_point() else ends[name]
        for name, value in start.state_dict().items()
    }


def extract_features(model: PlanetClassifier, batches: Iterable, precision: str, device: torch.device) -> TensorDataset:
    """Passes batches of images through the frozen backbone once: features (N, F) float32 and class numbers (N,)."""
    model.eval()
    features, labels = [], []
    with torch.inference_mode(), use_precision(precision, device):
        for images, numbers in batches:
            features.append(model.features(images.to(device)).float().cpu())
            labels.append(numbers)
    return TensorDataset(torch.cat(features).clone(), torch.cat(labels))


def make_schedule(optimiser: torch.optim.Optimizer, steps: int, warmup: float) -> LRScheduler:
    """Learning rate over `steps`: linear rise during the share `warmup`, then a cosine down to zero."""
    rise = max(1, round(steps * warmup))
    parts = [LinearLR(optimiser, 0.01, total_iters=rise), CosineAnnealingLR(optimiser, max(1, steps - rise))]
    return SequentialLR(optimiser, parts, [rise])
