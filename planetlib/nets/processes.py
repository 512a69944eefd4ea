"""The processes of a training: this one alone, or several, as `torchrun` starts them.

Each of several trains on its share of every batch, so a step is that of one process with the whole batch. The first one
writes files and tells how it goes; the others are silent.
"""

import atexit
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from planetlib import PlanetlibError

#: while the first process opens and decodes every file, the others wait
PATIENCE = timedelta(days=1)


class Processes:
    """Those that share a training, seen from one of them; this one alone, unless `torchrun` started several.

    `rank` is the number of this one among `count`.
    """

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count

    def require_fit(self, settings: Any) -> None:
        """Raises PlanetlibError for a training, by its `Settings`, that several processes cannot share."""
        got, do = f"got {self.count} processes", "or train in one process"
        if self.count > 1 and settings.norm != "frozen":  # torch's sums over parts of a batch need GPUs
            said = f"{got} and the norm '{settings.norm}', whose statistics would differ; expected 'frozen'"
            raise PlanetlibError(said, do=f"take the recipe robust, {do}")
        if self.count > 1 and not settings.views:
            said = f"{got} and views 0, which each would make for itself; expected some"
            raise PlanetlibError(said, do=f"--views 4, {do}")

    def wait(self) -> None:
        """Returns once every process has come here."""
        if self.count > 1:
            distributed.barrier()

    def share_out(self, features: Any) -> None:
        """Of several processes each makes some views of `FrozenFeatures`; one alone makes each when it is met."""
        if self.count > 1:
            for number in features.numbers[self.rank :: self.count]:
                features.load(number)
            self.wait()

    def take_share(self, batches: Iterable) -> Iterator[list[Tensor]]:
        """Of each batch the rows of this process; of a short one there may be none."""
        return ([part[self.rank :: self.count] for part in batch] for batch in batches)

    def add_up(self, values: Tensor) -> Tensor:
        """Sums over the processes, in place; every process has the same result."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def share_gradients(self, module: nn.Module) -> nn.Module:
        """A module whose gradients are their mean over the processes."""
        return DistributedDataParallel(module, broadcast_buffers=False) if self.count > 1 else module


ALONE = Processes()


def join_processes() -> Processes:
    """Makes this one of the processes of `torchrun`, where it started it: by gloo on processors, by NCCL on GPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return ALONE
    if not distributed.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            backend = "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend, timeout=PATIENCE)
        atexit.register(distributed.destroy_process_group)
    processes = Processes(distributed.get_rank(), distributed.get_world_size())
    if processes.rank:
        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = open(os.devnull, "w")
    return processes
