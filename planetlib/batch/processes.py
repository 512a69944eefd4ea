"""Training by several processes, as `torchrun` starts them.

Each process trains on its share of every batch, so a step is that of one process with the whole batch. The first one
writes files and tells how it goes; the others are silent.
"""

import atexit
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from planetlib import PlanetlibError
from planetlib.features import FrozenFeatures
from planetlib.settings import Settings
from planetlib.train import Alone

#: while the first process opens and decodes every file, the others wait
PATIENCE = timedelta(days=1)


def join_processes() -> Alone:
    """Makes this one of the processes of `torchrun`, where it started it: by gloo on processors, by NCCL on GPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return Alone()
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=PATIENCE)
    atexit.register(distributed.destroy_process_group)
    processes = Several()
    if processes.rank:
        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = open(os.devnull, "w")
    return processes


class Several(Alone):
    """One of the processes that have joined."""

    def __init__(self):
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    def require_fit(self, settings: Settings) -> None:
        """Raises PlanetlibError for a training that several processes cannot share."""
        got, do = f"got {self.count} processes", "or train in one process"
        if settings.norm != "frozen":  # each sees a part of a batch alone; torch's sums over processes need GPUs
            said = f"{got} and the norm '{settings.norm}', whose statistics would differ; expected 'frozen'"
            raise PlanetlibError(said, do=f"take the recipe robust, {do}")
        if not settings.views:
            said = f"{got} and views 0, which each would make for itself; expected some"
            raise PlanetlibError(said, do=f"--views 4, {do}")

    def wait(self) -> None:
        """Returns once every process has come here."""
        distributed.barrier()

    def share_out(self, features: FrozenFeatures) -> None:
        """Makes every view, each of them in one process."""
        for number in features.numbers[self.rank :: self.count]:
            features.load(number)
        self.wait()

    def add_up(self, values: Tensor) -> Tensor:
        """Sums over the processes, in place; every process has the same result."""
        distributed.all_reduce(values)
        return values

    def take_share(self, batches: Iterable) -> Iterator[list[Tensor]]:
        """Of each batch the rows of this process; of a short one there may be none."""
        for batch in batches:
            yield [part[self.rank :: self.count] for part in batch]

    def share_gradients(self, module: nn.Module) -> nn.Module:
        """A module whose gradients are their mean over the processes."""
        return DistributedDataParallel(module, broadcast_buffers=False)
