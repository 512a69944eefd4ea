"""Training by several processes, as `torchrun` starts them: which one this is, and what they add up together.

Each process trains on its share of every batch, so a step is that of one process with the whole batch. The first one
writes files and tells how it goes; the others are silent. Without torchrun all of this does nothing.
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

#: while the first process opens and decodes every file, the others wait
PATIENCE = timedelta(days=1)


def join_processes() -> None:
    """Makes this one of the processes of `torchrun`: by gloo on processors, by NCCL on GPUs, one for each process."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=PATIENCE)
    atexit.register(distributed.destroy_process_group)
    if not is_first():
        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = open(os.devnull, "w")


def find_rank() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return find_rank()[0] == 0


def wait_for_all() -> None:
    """Returns once every process has come here."""
    if distributed.is_initialized():
        distributed.barrier()


def add_up(values: Tensor) -> Tensor:
    """Sums over the processes, in place; every process has the same result."""
    if distributed.is_initialized():
        distributed.all_reduce(values)
    return values


def take_share(batches: Iterable[tuple[Tensor, ...]]) -> Iterator[list[Tensor]]:
    """Of each batch the rows of this process; of a short one there may be none."""
    rank, count = find_rank()
    for batch in batches:
        yield [part[rank::count] for part in batch]


def share_gradients(module: nn.Module, norm: str) -> nn.Module:
    """The module itself or, where there are several processes, one whose gradients are their mean.

    Args:
        module: with free parameters.
        norm: see `Settings`.

    Raises:
        PlanetlibError: BatchNorm statistics are to move, with several processes: each sees a part of a batch alone, and
            those of torch that are summed up work on GPUs only.
    """
    if not distributed.is_initialized():
        return module
    if norm != "frozen":
        raise PlanetlibError(
            f"got {find_rank()[1]} processes and the norm '{norm}', whose statistics would differ between them; train "
            "in one process, or with the norm 'frozen', as recipe 'robust' has it"
        )
    return DistributedDataParallel(module, broadcast_buffers=False)
