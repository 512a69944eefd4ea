"""Tensors on disk: those of a checkpoint, words beside them and a digest over both; where a training stands; features.

All hold numbers and words alone, so a stranger's file runs no code, and what was damaged or altered is refused.
"""

import hashlib
import io
import json
import os
import pickle
import reprlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from planetlib import PlanetlibError
from planetlib.files.whole import open_whole


class CheckpointError(PlanetlibError):
    """A file that is no checkpoint of ours, or is not there."""

    def __init__(self, message: str, do: str = "train one anew ('planetlib train' or notebook 02)"):
        super().__init__(message, do)


def write_tensors(tensors: dict[str, Tensor], words: dict, path: str | os.PathLike, format: int) -> None:
    """Writes a safetensors file with words as JSON, whole or not at all; equal ones give equal bytes."""
    said = {"format": format, "sha256": digest_tensors(tensors, words), **words}
    content = save(tensors, {"planetlib": json.dumps(said, sort_keys=True)})
    with open_whole(path) as file:
        file.write(content)


def read_tensors(path: str | os.PathLike, format: int) -> tuple[dict[str, Tensor], dict]:
    """Tensors, all of them finite, and words that `write_tensors` wrote.

    Raises:
        CheckpointError: no such file, or none of this format, whole and unaltered.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", do="'planetlib train' or notebook 02 makes it")
    content = path.read_bytes()
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        words = json.loads(header["__metadata__"]["planetlib"])
        made, digest = words.pop("format"), words.pop("sha256")
    except (SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({reprlib.repr(str(error))})") from error
    if type(made) is int and made > format:
        said = f"{path}: got format {made}, expected {format}: it is of a newer planetlib"
        raise CheckpointError(said, do="install that")
    if made != format or digest != digest_tensors(tensors, words):
        raise CheckpointError(f"{path}: damaged, altered or not a checkpoint of format {format}")
    for name, tensor in tensors.items():
        kind = torch.int64 if name.endswith(".num_batches_tracked") else torch.float32
        if tensor.dtype != kind or not tensor.isfinite().all():
            raise CheckpointError(f"{path}: '{name}' is {tensor.dtype}; expected {kind}, all of it finite")
    return tensors, words


def digest_tensors(tensors: dict[str, Tensor], words: dict) -> str:
    """64 hexadecimal digits that change when a tensor or a word does."""
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def is_a(value: Any, kind: Any) -> bool:
    """Whether a value from JSON is of an annotated type; a float is a finite number, however it was written."""
    parts = get_args(kind)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(is_a(one, parts[1]) for one in value.values())
    if get_origin(kind) is list:
        return isinstance(value, list) and all(is_a(one, parts[0]) for one in value)
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # a whole number may be above it
    return type(value) is kind


def write_state(content: dict, path: str | os.PathLike) -> None:
    """Writes where a training stands, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with open_whole(path) as file:
        file.write(buffer.getbuffer())


def read_state(path: str | os.PathLike) -> dict:
    """Reads what `write_state` wrote. Raises CheckpointError where that cannot be done."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise CheckpointError(f"{path}: damaged ({reprlib.repr(str(error))})", do="--overwrite starts anew") from error


@contextmanager
def write_pieces(path: str | os.PathLike, count: int) -> Iterator[Callable[[Tensor], None]]:
    """Writes `count` maps (C, H, W) as .npy, whole or not at all; the body gets what adds some of them (B, C, H, W).

    NumPy has no bfloat16: its bits are kept as whole numbers. Not into mapped memory: there, a full disk would kill the
    process without a word.
    """
    with open_whole(path) as file:

        def add(maps: Tensor) -> None:
            values = maps.cpu().contiguous()
            numbers = (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()
            if not file.tell():
                header = {"descr": numbers.dtype.str, "fortran_order": False, "shape": (count, *numbers.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(numbers.tobytes())

        yield add


def read_pieces(path: str | os.PathLike, mapped: bool) -> Tensor:
    """What `write_pieces` wrote, in memory or `mapped` from the file.

    Raises:
        FileNotFoundError, ValueError, EOFError: it is not there, or damaged.
    """
    numbers = torch.from_numpy(np.load(path, mmap_mode="c" if mapped else None))  # torch wants to be able to write
    return numbers.view(torch.bfloat16) if numbers.dtype == torch.int16 else numbers
