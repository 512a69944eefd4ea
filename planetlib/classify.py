"""`Classifier`: a checkpoint applied to pictures, files and folders of any size.

The predictions table (pandas) has one row for each input, in input order:
`path, label, predicted, confidence, unknown_score, status, error, note, prob_<class>…`. `error` says why a picture is
unreadable; `note` what was left out of one that is not (`first of several frames`), and is mostly empty.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from planetlib.checkpoint import Checkpoint, find_checkpoint
from planetlib.files.find import path_text
from planetlib.files.progress import progress_bar
from planetlib.files.read import UnreadableImage
from planetlib.images import decode_image
from planetlib.model import Embedder, score_unknown
from planetlib.nets.device import choose_device, on_one_core, pass_pieces
from planetlib.nets.runtime import Runtime, TorchRuntime
from planetlib.transforms import fit_to_square, to_tensor

COLUMNS = ["path", "label", "predicted", "confidence", "unknown_score", "status", "error", "note"]


class Classifier:
    """Predicts with a checkpoint.

    Args:
        checkpoint: what `Checkpoint.load` returns.
        device: `cpu`, `cuda`, … or `auto`.
        precision: `float32`, `bfloat16` or `auto`; None takes the one the checkpoint was trained with.

    Attributes:
        checkpoint: as given.
        class_names: in the order of the probabilities.
        model: in evaluation mode. It is what is explained; predictions come from a copy, made for speed when the first
            is asked for.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str | None = None):
        self.checkpoint, self.class_names = checkpoint, list(checkpoint.class_names)
        self.device = choose_device(device)
        self.precision = precision or checkpoint.recipe.get("precision", "auto")
        with on_one_core():
            self.model = checkpoint.build_model().to(self.device)

    @classmethod
    def load(cls, run: str | os.PathLike, **options) -> "Classifier":
        """From a run folder (its last phase's best checkpoint) or a checkpoint file; options as above.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        return cls(Checkpoint.load(find_checkpoint(run)), **options)

    @cached_property
    def compute(self) -> Runtime:
        """What passes images through the network; `planetlib.batch.runtime` has another to put in its place."""
        with on_one_core():
            return TorchRuntime(Embedder(self.model), self.device, self.precision)

    def prepare(self, picture: np.ndarray) -> Tensor:
        """A picture, uint8 (H, W, 3), as the model's input, uint8 (3, size, size)."""
        return to_tensor(fit_to_square(picture, self.checkpoint.image_size, self.checkpoint.fit))

    def embed_tensors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) of prepared images, uint8 (B, 3, size, size), and what the detector looks at (B, S)."""
        logits, lower = pass_pieces(self.compute, images, self.device)
        return logits[:, : len(self.class_names)], lower

    def predict_tensors(self, images: Tensor) -> Tensor:
        """The first of what `score_tensors` returns."""
        return self.score_tensors(images)[0]

    def score_tensors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, classes) of prepared images (B, 3, H, W), calibrated by the checkpoint's temperature.

        And from the same pass their scores for «none of these» (B,), 0–1; NaN where the checkpoint has no detector.
        """
        logits, lower = self.embed_tensors(images)
        unknown = torch.full((len(logits),), torch.nan)
        if self.checkpoint.detector:
            unknown = score_unknown(self.checkpoint.detector, lower, len(self.class_names))
        return (logits / self.checkpoint.temperature).softmax(1), unknown

    def predict(
        self,
        paths: Iterable | str | os.PathLike,
        labels: Iterable[str] | None = None,
        batch_size: int = 32,
        progress: bool = True,
    ) -> pd.DataFrame:
        """The predictions table of image files; one that cannot be read gives a row that says so.

        `labels` are their true classes, "" where nobody knows. A single path is one picture.
        """
        paths = [str(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
        labels = [""] * len(paths) if labels is None else list(labels)
        tables = []
        with progress_bar(None, progress, desc="predicting", total=len(paths), unit="image", leave=False) as bar:
            for table in self.stream(zip(paths, labels, strict=True), batch_size):
                tables.append(table)
                bar.update(len(table))
        return pd.concat(tables, ignore_index=True) if tables else self._make_rows([], [])

    def predict_picture(self, picture: np.ndarray, name: str = "") -> pd.Series:
        """The row of the predictions table for a picture in memory, uint8 (H, W, 3); `path` is its name."""
        return self._make_rows([(name, "", "", "")], [self.prepare(picture)]).iloc[0]

    def stream(self, inputs: Iterable[tuple[str, str]], batch_size: int = 32) -> Iterator[pd.DataFrame]:
        """The predictions table in pieces of `batch_size` rows; memory does not grow with the number of inputs.

        They are (path, label) pairs; the label is "" where nobody knows it, and the bytes of a file may be in place of
        its path.
        """
        inputs, workers = iter(inputs), torch.get_num_threads()
        self.compute  # noqa: B018 - made here, not by several threads at once
        # Each thread reads a batch and computes it on one core: while one waits for the disk, the others go on, and no
        # core waits for another, as those that share an operation do.
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        ahead: deque[Future[pd.DataFrame]] = deque()
        try:
            while True:
                while len(ahead) <= workers and (batch := list(islice(inputs, batch_size))):
                    ahead.append(pool.submit(self._predict_batch, batch))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(workers)  # for threads that start from now on

    def _predict_batch(self, batch: list[tuple[str, str]]) -> pd.DataFrame:
        rows, images = [], []
        for path, label in batch:
            try:
                picture, facts = decode_image(path, self.checkpoint.image_size)
                images.append(self.prepare(picture))
                rows.append((path, label, "", facts["note"]))
            except UnreadableImage as error:
                rows.append((path, label, error.reason, ""))
        return self._make_rows(rows, images)

    def _make_rows(self, rows: list[tuple], images: list[Tensor]) -> pd.DataFrame:
        """The table for (path, label, error, note) rows; those without an error have an image each, in order."""
        table = pd.DataFrame(rows, columns=["path", "label", "error", "note"], dtype=object)
        # From Python, a path may be one that tables cannot hold; bytes are those of a file that came without a path.
        table["path"] = [path if isinstance(path, bytes) else path_text(path) for path in table.path]
        readable = (table.error == "").to_numpy()
        full, unknown = np.full((len(table), len(self.class_names)), np.nan), np.full(len(table), np.nan)
        if images:
            full[readable], unknown[readable] = self.score_tensors(torch.stack(images))
        best = np.nan_to_num(full).argmax(1)
        table["predicted"] = np.where(readable, np.array(self.class_names, dtype=object)[best], "")
        table["confidence"], table["unknown_score"] = full.max(1), unknown
        # NaN is not above any threshold: what is unreadable, or was never calibrated, is not called unknown.
        is_unknown = unknown > self.checkpoint.unknown_threshold
        table["status"] = np.select([~readable, is_unknown], ["unreadable", "unknown"], "ok")
        shares = pd.DataFrame(full, columns=[f"prob_{name}" for name in self.class_names])
        return pd.concat([table[COLUMNS], shares], axis=1)
