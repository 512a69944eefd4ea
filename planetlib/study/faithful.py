"""How far activation maps can be trusted: do they show what the network goes by, and what it has learnt?"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock

import cv2
import numpy as np
import pandas as pd
import torch
from scipy.integrate import trapezoid
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from planetlib.classify import Classifier
from planetlib.draw.planets import PLANETS, draw_planet
from planetlib.explain import METHODS, map_activation
from planetlib.files.progress import progress_bar
from planetlib.images import read_image
from planetlib.model import Network
from planetlib.nets.device import on_one_core
from planetlib.transforms import to_picture

STEPS = 10  # of a deletion or insertion curve
BATCH = 64  # pictures in a step
#: column of `compare_methods` → whether more of it is better
BETTER_HIGH = {"deletion": False, "insertion": True, "sanity_head": False, "sanity_all": False, "on_planet": True}


def perturb_picture(picture: np.ndarray, heat: np.ndarray, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a deletion and of an insertion curve (Petsiuk et al. 2018, RISE, arXiv:1806.07421, section 3.3).

    Of a picture, uint8 (H, W, 3), and its map, float (H, W).

    Returns:
        Two arrays uint8 (steps + 1, H, W, 3): the picture with 0, 1/steps, … all of its pixels made black, the most
        important first; and the blurred picture with as many of them brought back.
    """
    place = np.empty(heat.size, int)
    place[np.argsort(-heat, axis=None, kind="stable")] = np.arange(heat.size)
    changed = (place.reshape(heat.shape) < np.arange(steps + 1)[:, None, None] * heat.size / steps)[..., None]
    blurred = cv2.GaussianBlur(picture, (0, 0), 5 / 224 * max(picture.shape[:2]))  # as theirs, in share of the side
    return np.where(changed, 0, picture).astype(np.uint8), np.where(changed, picture, blurred)


def measure_curves(
    classifier: Classifier, picture: np.ndarray, heats: Sequence[np.ndarray], class_name: str, steps: int = STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Probability of a class along the deletion and insertion curves of several maps of one picture.

    Both are float (maps, steps + 1), 0–1. The lower the area below a deletion curve, and the higher that below an
    insertion curve, the better the map shows what the network goes by.
    """
    pictures = np.concatenate([part for heat in heats for part in perturb_picture(picture, heat, steps)])
    tensors = torch.stack([classifier.prepare(one) for one in pictures]).split(BATCH)
    number = classifier.class_names.index(class_name)
    curves = torch.cat([classifier.predict_tensors(batch)[:, number] for batch in tensors]).numpy()
    curves = curves.reshape(len(heats), 2, steps + 1)
    return curves[:, 0], curves[:, 1]


def randomize_weights(classifier: Classifier, everything: bool) -> Classifier:
    """A classifier that has forgotten what it learnt: with another head, or with no weight of the old ones."""
    checkpoint = classifier.checkpoint
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        outputs = len(checkpoint.class_names) + len(checkpoint.outlier_kinds)
        fresh = Network(checkpoint.backbone, outputs, checkpoint.head, weights="random")
    new = {name: value for name, value in fresh.state_dict().items() if everything or name.startswith("head.")}
    forgetful = dataclasses.replace(checkpoint, state_dict={**checkpoint.state_dict, **new})
    return Classifier(forgetful, str(classifier.device), classifier.precision)


def correlate_maps(heat: np.ndarray, other: np.ndarray) -> float:
    """Size of Spearman's rank correlation of two maps, 0–1; 0 where one is the same everywhere."""
    if np.ptp(heat) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(abs(spearmanr(heat, other, axis=None).statistic))


def measure_mass(heat: np.ndarray, mask: np.ndarray) -> float:
    """Share of a map's mass that lies within a mask, 0–1: the energy-based pointing game (Wang et al. 2020, Score-CAM,
    arXiv:1910.01279, section 4.3); 0 for a map that is zero everywhere."""
    return float(heat[mask].sum() / max(heat.sum(), 1e-9))


def compare_methods(
    classifier: Classifier,
    paths: Iterable,
    methods: Sequence[str] = tuple(METHODS),
    steps: int = STEPS,
    renders: int = 5,
) -> pd.DataFrame:
    """Scores of the methods for activation maps, each map being of the class that the network predicts.

    `paths` are of readable pictures, and `renders` pictures are drawn of each class that can be drawn, whose masks tell
    what is planet; `methods` are names in `METHODS`, `steps` those of the curves.

    Returns:
        A row for each method, the best first, all columns in 0–1 but the last: `deletion`, `insertion` (areas below the
        curves); `sanity_head`, `sanity_all`: correlation with the map of a network whose head, or all of whose weights,
        are random (Adebayo et al. 2018, arXiv:1810.03292; what does not change shows nothing of what was learnt);
        `on_planet`: share of the map's mass on the planet, of drawn pictures, to be held against
        `attrs["planet_area"]`, what a map would get that is the same everywhere; `rank`: mean of the ranks in the
        five. `on_planet` is empty where no class can be drawn.
    """
    forgetful = {f"sanity_{part}": randomize_weights(classifier, part == "all") for part in ("head", "all")}
    turns = {network: Lock() for network in (classifier, *forgetful.values())}

    def make_maps(network: Classifier, picture: np.ndarray, name: str) -> list[np.ndarray]:
        with turns[network]:  # a map is taken by hooks in the network
            return [map_activation(network, picture, name, method) for method in methods]

    def rate_picture(path) -> pd.DataFrame:
        # What the network sees, so that nothing is resized between the map and the pixels it is about.
        picture = to_picture(classifier.prepare(read_image(path, classifier.checkpoint.image_size)))
        name = classifier.predict_picture(picture).predicted
        heats = make_maps(classifier, picture, name)
        curves = measure_curves(classifier, picture, heats, name, steps)
        deletion, insertion = (trapezoid(curve, np.linspace(0, 1, steps + 1)) for curve in curves)
        scores = {"method": methods, "deletion": deletion, "insertion": insertion}
        for column, network in forgetful.items():
            scores[column] = list(map(correlate_maps, heats, make_maps(network, picture, name)))
        return pd.DataFrame(scores)

    def rate_drawn(planet: str, number: int) -> pd.DataFrame:
        drawn = draw_planet(planet, classifier.checkpoint.image_size, number, plain=True)
        heats = make_maps(classifier, drawn.image, classifier.predict_picture(drawn.image).predicted)
        masses = [measure_mass(heat, drawn.mask) for heat in heats]
        return pd.DataFrame({"method": methods, "on_planet": masses, "area": drawn.mask.mean()})

    tasks = [partial(rate_picture, path) for path in paths]
    planets = sorted(set(PLANETS) & set(classifier.class_names))
    tasks += [partial(rate_drawn, planet, number) for planet in planets for number in range(renders)]
    rows = pd.concat(_run_tasks(classifier, tasks)).reindex(columns=["method", *BETTER_HIGH, "area"])
    table = rows.groupby("method", sort=False).mean()
    # Some methods are the same formula for some networks: what differs by rounding alone shares its rank.
    ranks = [table[column].round(3).rank(ascending=not high) for column, high in BETTER_HIGH.items()]
    table.attrs["planet_area"] = float(table.pop("area").mean())
    table["rank"] = pd.concat(ranks, axis=1).mean(axis=1)
    return table.sort_values("rank", kind="stable")


def _run_tasks(classifier: Classifier, tasks: Sequence[Callable]) -> list:
    """Results of tasks, in order, each computed by one thread on one core.

    Threads that share an operation wait for each other some hundred times in each pass, and do so by spinning: where
    other programs keep the processor busy, one of them is always out, and all is slower by ten times and more.
    """
    classifier.compute  # noqa: B018 - made here, not by several threads at once
    pool = ThreadPoolExecutor(torch.get_num_threads())
    with on_one_core(), threadpool_limits(1, "blas"):  # which its threads heed
        try:
            done = pool.map(lambda task: task(), tasks)
            return list(progress_bar(done, total=len(tasks), desc="explaining", unit="image", leave=False))
        finally:
            pool.shutdown(cancel_futures=True)
