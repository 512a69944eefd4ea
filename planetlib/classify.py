"""`Classifier`: a checkpoint applied to pictures, files and folders of any size.

The predictions table (pandas) has one row for each input, in input order:
`path, label, predicted, confidence, unknown_score, status, error, note, prob_<class>…`. `error` says why a picture is
unreadable; `note` what was left out of one that is not (`first of several frames`), and is mostly empty.
"""

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from planetlib import PlanetlibError
from planetlib.batch.runtime import OpenVinoRuntime, choose_runtime
from planetlib.calibrate import score_unknown
from planetlib.checkpoint import Checkpoint, find_checkpoint
from planetlib.data import find_images, path_text, progress_bar
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import DataError, write_rows
from planetlib.files.whole import name_failures
from planetlib.images import decode_image
from planetlib.model import TorchRuntime, choose_device, pass_pieces
from planetlib.transforms import fit_to_square, to_tensor

NOTHING = torch.empty(0, 0), torch.empty(0)  # what is found in no picture


class Classifier:
    """Predicts with a checkpoint.

    Args:
        checkpoint: what `Checkpoint.load` returns.
        device: `cpu`, `cuda`, … or `auto`.
        precision: `float32`, `bfloat16` or `auto`; None takes the one the checkpoint was trained with.
        runtime: `torch`, `openvino` or `auto`, which goes by `expected`.
        expected: how many images are to be predicted.

    Attributes:
        checkpoint: as given.
        class_names: in the order of the probabilities.
        model: in evaluation mode. It is what is explained; predictions come from a copy, made for speed when the first
            is asked for.
        runtime: that computes them, `torch` or `openvino`.
        most: images that are passed through the model at once; it falls where a GPU has too little memory.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: str | None = None,
        runtime: str = "torch",
        expected: int = 0,
    ):
        self.checkpoint, self.class_names = checkpoint, list(checkpoint.class_names)
        self.device = choose_device(device)
        self.precision = precision or checkpoint.recipe.get("precision", "auto")
        self.runtime = choose_runtime(runtime, self.device, expected)
        self.model = checkpoint.build_model().to(self.device)
        self.most = sys.maxsize

    @classmethod
    def load(cls, run: str | os.PathLike, **options) -> "Classifier":
        """From a run folder (its last stage's best checkpoint) or a checkpoint file; options as above.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        return cls(Checkpoint.load(find_checkpoint(run)), **options)

    def prepare(self, picture: np.ndarray) -> Tensor:
        """A picture, uint8 (H, W, 3), as the model's input, uint8 (3, size, size)."""
        return to_tensor(fit_to_square(picture, self.checkpoint.image_size, self.checkpoint.fit))

    @cached_property
    def _compute(self) -> TorchRuntime | OpenVinoRuntime:
        if self.runtime == "openvino":
            return OpenVinoRuntime(self.model, self.checkpoint.image_size, self.precision)
        return TorchRuntime(self.model, self.device, self.precision)

    def embed_tensors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) of prepared images, uint8 (B, 3, size, size), and what the unknown detector looks at."""
        logits, lower = pass_pieces(self._compute, images, self.device)
        return logits[:, : len(self.class_names)], lower

    def predict_tensors(self, images: Tensor) -> Tensor:
        """Probabilities (B, classes) of prepared images (B, 3, H, W), calibrated by the checkpoint's temperature."""
        return self.score_tensors(images)[0]

    def score_tensors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and scores for «none of these» of prepared images (B, 3, H, W), in one pass.

        Where a GPU has too little memory for so many, it is tried, and said, with half of them until they fit.

        Returns:
            Probabilities (B, classes), calibrated by the checkpoint's temperature, and scores (B,), 0–1; NaN where the
            checkpoint has not been calibrated.

        Raises:
            PlanetlibError: there is too little memory for a single picture.
        """
        done: list[tuple[Tensor, Tensor]] = []
        rest = images
        while len(rest) or not done:
            try:
                done.append(self._score(rest[: self.most]))
                rest = rest[self.most :]
            except torch.OutOfMemoryError as error:
                tried = min(self.most, len(rest))
                if tried <= 1:
                    raise PlanetlibError(
                        f"{self.device}: too little memory for a picture of {self.checkpoint.image_size} pixels; "
                        "expected room for one: end what else runs there, or take another device ('cpu')"
                    ) from error
                self.most = tried // 2
                torch.cuda.empty_cache()
                print(f"{self.device}: too little memory for {tried} pictures at once; going on with {self.most}",
                      file=sys.stderr)  # fmt: skip
        probabilities, unknown = map(torch.cat, zip(*done))
        return probabilities, unknown

    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, lower = self.embed_tensors(images)
        detector, known = self.checkpoint.detector, len(self.class_names)
        unknown = score_unknown(detector, lower, known) if detector else torch.full((len(logits),), torch.nan)
        return (logits / self.checkpoint.temperature).softmax(1), unknown

    def predict(
        self, paths: Iterable, labels: Iterable[str] | None = None, batch_size: int = 32, progress: bool = True
    ) -> pd.DataFrame:
        """The predictions table of files.

        Args:
            paths: of image files. One that cannot be read gives a row that says so.
            labels: the true class of each, where known; "" where not.
            batch_size: images in a step.
            progress: show a bar.
        """
        paths = [str(path) for path in paths]
        labels = [""] * len(paths) if labels is None else list(labels)
        batches = self.stream(zip(paths, labels, strict=True), batch_size)
        with progress_bar(None, progress, desc="predicting", total=len(paths), unit="image", leave=False) as bar:
            tables = [table for table in batches if bar.update(len(table)) or True]
        return pd.concat(tables, ignore_index=True) if tables else self._make_table([], NOTHING)

    def predict_picture(self, picture: np.ndarray, name: str = "") -> pd.Series:
        """The row of the predictions table for a picture in memory, uint8 (H, W, 3); `path` is its name."""
        return self._make_table([(name, "", "", "")], self.score_tensors(self.prepare(picture)[None])).iloc[0]

    def stream(self, inputs: Iterable[tuple[str, str]], batch_size: int = 32) -> Iterator[pd.DataFrame]:
        """The predictions table in pieces of `batch_size` rows; memory does not grow with the number of inputs.

        Args:
            inputs: (path, label) pairs; label is "" where nobody knows it.
            batch_size: images in a step.
        """
        inputs, workers = iter(inputs), torch.get_num_threads()
        self._compute  # noqa: B018 - made here, not by several threads at once
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
        rows = [(path, label, *self._read(path)) for path, label in batch]
        images = [image for _, _, image, *_ in rows if image is not None]
        found = self.score_tensors(torch.stack(images)) if images else NOTHING
        return self._make_table([(path, label, *words) for path, label, _, *words in rows], found)

    def _read(self, path: str) -> tuple[Tensor | None, str, str]:
        """The model's input, an error and a note."""
        try:
            picture, facts = decode_image(path)
            return self.prepare(picture), "", facts["note"]
        except UnreadableImage as error:
            return None, error.reason, ""

    def _make_table(self, rows: list[tuple[str, ...]], found: tuple[Tensor, Tensor]) -> pd.DataFrame:
        """Rows of (path, label, error, note); `found`, of `score_tensors`, has a line for each row without an error."""
        # A path from Python may be one that tables cannot hold; bytes are those of a file that came without a path.
        rows = [(path if isinstance(path, bytes) else path_text(path), *words) for path, *words in rows]
        table = pd.DataFrame(rows, columns=["path", "label", "error", "note"])
        readable = (table.error == "").to_numpy()
        full, unknown = np.full((len(table), len(self.class_names)), np.nan), np.full(len(table), np.nan)
        if readable.any():
            full[readable], unknown[readable] = found
        best = np.where(readable, np.nan_to_num(full).argmax(1), -1)
        table["predicted"] = [self.class_names[index] if index >= 0 else "" for index in best]
        table["confidence"] = full.max(1)
        table["unknown_score"] = unknown
        # NaN is not above any threshold: what is unreadable, or was never calibrated, is not called unknown.
        foreign = unknown > self.checkpoint.unknown_threshold
        table["status"] = np.select([~readable, foreign], ["unreadable", "unknown"], "ok")
        names = [f"prob_{name}" for name in self.class_names]
        ordered = table[["path", "label", "predicted", "confidence", "unknown_score", "status", "error", "note"]]
        return pd.concat([ordered, pd.DataFrame(full, columns=names)], axis=1)


def gather_inputs(places: Iterable[str | os.PathLike], class_names: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Files and folders of any depth → (path, label) pairs, in the order given, each folder sorted.

    A file named outright is taken whatever its suffix; in folders, suffixes decide. The label is the name of the folder
    a picture lies in, where that is one of `class_names`, and "" elsewhere.

    Raises:
        DataError: a place that is not there, or no picture in any.
    """
    names, pairs = set(class_names), []
    for place in map(Path, places):
        if not os.path.lexists(place):  # a link to nothing is there, and gets a row
            raise DataError(f"{place}: no such file or folder")
        for path in find_images(place) if place.is_dir() else [place]:
            pairs.append((path_text(path), path.parent.name if path.parent.name in names else ""))
    if not pairs:
        raise DataError(f"{', '.join(map(str, places))}: no pictures there; expected files such as .png, .jpg, .tif")
    return pairs


def write_predictions(
    tables: Iterable[pd.DataFrame], path: str | os.PathLike, append: bool = False
) -> Iterator[pd.DataFrame]:
    """Writes a stream of predictions to a CSV as they come, and passes each piece on.

    The file is `<path>.part` until the last row is written, so a file without `.part` is always whole, and what a
    killed process had done is not lost.

    Args:
        tables: pieces of the predictions table.
        path: of the CSV.
        append: to the rows that `<path>.part` holds, see `planetlib.batch.resume`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with name_failures(partial), open(partial, "a" if append else "w", newline="", encoding="utf-8") as file:
        for index, table in enumerate(tables, append):
            write_rows(table, file, header=index == 0, float_format="%.6g")
            file.flush()
            yield table
        os.fsync(file.fileno())
    os.replace(partial, path)
