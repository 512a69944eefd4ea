"""Pictures, files and folders of any size → the predictions table."""

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from planetlib import PlanetlibError
from planetlib.checkpoint import Checkpoint
from planetlib.classify import Classifier
from planetlib.files.find import gather_inputs
from planetlib.files.tables import DataError
from planetlib.images import read_image
from tests.conftest import encode, photograph

PROBABILITIES = ["prob_blue", "prob_green", "prob_red"]
COLUMNS = ["path", "label", "predicted", "confidence", "unknown_score", "status", "error", "note", *PROBABILITIES]


def with_choices(classifier: Classifier, **choices) -> Classifier:
    return Classifier(dataclasses.replace(classifier.checkpoint, **choices), device="cpu")


@pytest.fixture(scope="module")
def classifier(classifier) -> Classifier:
    """Calls nothing unknown."""
    return with_choices(classifier, unknown_threshold=1.0)


@pytest.fixture
def paths(samples) -> list[str]:
    return samples.path.tolist()


# The table


def test_table_has_a_row_for_each_input_in_input_order(classifier, paths, samples):
    order = paths[::-1] + paths[:2]
    table = classifier.predict(order, samples.label.tolist()[::-1] + ["", ""], progress=False)
    assert list(table.columns) == COLUMNS
    assert table.path.tolist() == order
    assert table.label.tolist() == samples.label.tolist()[::-1] + ["", ""]
    assert table.index.tolist() == list(range(26))
    words = ("path", "label", "predicted", "status", "error", "note")
    assert all(pd.api.types.is_string_dtype(table[name]) for name in words)
    assert all(table[name].dtype == np.float64 for name in ("confidence", "unknown_score", *PROBABILITIES))


def test_loading_takes_one_core_and_leaves_the_others_to_whoever_comes_next(classifier, monkeypatch):
    threads, build = [], Checkpoint.build_model
    monkeypatch.setattr(Checkpoint, "build_model", lambda self: threads.append(torch.get_num_threads()) or build(self))
    torch.set_num_threads(2)
    try:
        Classifier(classifier.checkpoint, "cpu")
        assert threads == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_large_picture_is_decoded_at_the_scale_that_its_answer_needs(classifier, decoded):
    content = encode(photograph(), "JPEG", quality=92)
    (table,) = classifier.stream([(content, "")])
    assert decoded == [(1000, 600)]
    whole = classifier.predict_picture(read_image(content))
    assert table.predicted[0] == whole.predicted
    assert np.abs(table[PROBABILITIES].iloc[0].astype(float) - whole[PROBABILITIES].astype(float)).max() < 0.02


def test_prediction_is_the_likeliest_class_and_confidence_its_probability(classifier, paths, samples):
    table = classifier.predict(paths, progress=False)
    np.testing.assert_allclose(table[PROBABILITIES].sum(axis=1), 1, atol=1e-6)
    assert table.predicted.tolist() == [name.removeprefix("prob_") for name in table[PROBABILITIES].idxmax(axis=1)]
    assert (table.confidence == table[PROBABILITIES].max(axis=1)).all()
    assert (table.predicted == samples.label).mean() > 0.9
    assert set(table.status) == {"ok"} and set(table.error) == {""}


def test_no_inputs_give_the_same_columns_and_no_rows(classifier):
    table = classifier.predict([], progress=False)
    assert list(table.columns) == COLUMNS and table.empty
    assert list(classifier.stream([])) == []


def test_a_single_path_is_one_picture(classifier, paths):
    for path in (paths[0], Path(paths[0])):
        assert classifier.predict(path).path.tolist() == paths[:1]


@pytest.mark.parametrize("picture", [np.ones((9, 9, 3)), np.ones((9, 9), np.uint8), np.ones((9, 9, 2), np.uint8)])
def test_an_array_that_is_no_picture_is_told(picture, classifier):
    with pytest.raises(PlanetlibError, match=r"got a picture of .*; expected uint8 \(H, W, 3\)"):
        classifier.predict_picture(picture)


def test_as_many_labels_as_paths_are_asked_for(classifier, paths):
    with pytest.raises(ValueError, match="shorter"):
        classifier.predict(paths[:3], ["red"], progress=False)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_unreadable_files_give_a_row_with_the_reason_where_they_stood(batch_size, classifier, paths, tmp_path):
    empty, missing = tmp_path / "empty.png", tmp_path / "missing.png"
    empty.touch()
    order = [empty, missing, paths[0], missing, empty, paths[1]]
    table = classifier.predict(order, batch_size=batch_size, progress=False)
    assert table.status.tolist() == ["unreadable", "unreadable", "ok", "unreadable", "unreadable", "ok"]
    assert table.error.tolist() == ["empty file", "no such file", "", "no such file", "empty file", ""]
    lost = table[table.status == "unreadable"]
    assert lost[["confidence", *PROBABILITIES]].isna().all(axis=None) and set(lost.predicted) == {""}
    good = classifier.predict(paths[:2], progress=False)
    pd.testing.assert_frame_equal(table.loc[[2, 5]].reset_index(drop=True), good, rtol=0, atol=1e-5)


# What the checkpoint decides


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_probabilities_are_the_softmax_of_the_models_logits_divided_by_the_temperature(temperature, classifier, paths):
    with torch.inference_mode():
        logits = classifier.model(classifier.prepare(read_image(paths[3]))[None])[0, :3]  # the outliers' follow
    table = with_choices(classifier, temperature=temperature).predict([paths[3]], progress=False)
    found, expected = table.loc[0, PROBABILITIES].to_numpy(float), (logits / temperature).softmax(0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_above_the_threshold_a_picture_is_unknown_and_keeps_its_class(classifier, paths):
    sure = classifier.predict(paths, progress=False)
    threshold = float(sure.unknown_score.median())
    table = with_choices(classifier, unknown_threshold=threshold).predict(paths, progress=False)
    assert (table.status == "unknown").tolist() == (sure.unknown_score > threshold).tolist()
    assert set(sure.status) == {"ok"} and set(table.status) == {"ok", "unknown"}
    pd.testing.assert_frame_equal(table.drop(columns="status"), sure.drop(columns="status"))


def test_what_has_no_score_is_not_called_unknown(classifier, paths, tmp_path):
    table = with_choices(classifier, detector={}, unknown_threshold=0.0).predict(paths, progress=False)
    assert table.unknown_score.isna().all() and set(table.status) == {"ok"}
    table = with_choices(classifier, unknown_threshold=0.0).predict([tmp_path / "missing.png"], progress=False)
    assert table.status.tolist() == ["unreadable"]


def test_score_and_probabilities_are_of_one_pass(classifier, paths):
    image = classifier.prepare(read_image(paths[0]))[None]
    passes = []
    stem = classifier.compute.network.model.get_stage("toy.stem")
    with stem.register_forward_hook(lambda *_: passes.append(1)):
        probabilities, unknown = classifier.score_tensors(image)
    assert len(passes) == 1 and unknown.shape == (1,) and 0 <= unknown <= 1
    assert torch.equal(probabilities, classifier.predict_tensors(image))


def test_a_gpu_out_of_memory_halves_the_batch_says_so_and_remembers(trained_run, paths, capsys):
    classifier = Classifier.load(trained_run.run, device="cpu")
    expected = classifier.predict(paths[:20], batch_size=10, progress=False)
    network, room, tried = classifier.compute.network, 3, []

    def embed(images):
        tried.append(len(images))
        if len(images) > room:
            raise torch.OutOfMemoryError("out of memory")
        return network(images)

    classifier.compute.network = embed
    table = classifier.predict(paths[:20], batch_size=10, progress=False)
    pd.testing.assert_frame_equal(table, expected, atol=1e-5)
    assert tried == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[-1] for line in said] == ["4", "2"] and "8 pictures" in said[0]
    room = 0
    with pytest.raises(PlanetlibError, match="too little memory for a picture"):
        classifier.predict(paths[:4], progress=False)


def test_prepared_pictures_are_squares_of_the_checkpoints_size(classifier):
    wide = np.full((20, 50, 3), 200, np.uint8)
    padded, squashed = classifier.prepare(wide), with_choices(classifier, fit="squash").prepare(wide)
    assert padded.shape == squashed.shape == (3, 64, 64) and padded.dtype == squashed.dtype == torch.uint8
    assert padded[:, 0].max() == 0 and squashed.min() == 200


def test_a_run_folder_gives_its_last_phase_in_the_precision_of_its_training_and_a_file_itself(trained_run):
    last = Classifier.load(trained_run.run)
    head = Classifier.load(trained_run.run / "head.safetensors", precision="bfloat16")
    assert (last.checkpoint.phase, last.precision) == ("finetune", "float32")
    assert (head.checkpoint.phase, head.precision) == ("head", "bfloat16")


# Streams


def test_an_endless_stream_is_consumed_a_few_batches_ahead(classifier, paths):
    consumed = 0

    def endless():
        nonlocal consumed
        while True:
            consumed += 1
            assert consumed < 100, "the stream would never end"
            yield paths[consumed % len(paths)], ""

    stream = classifier.stream(endless(), batch_size=2)
    tables = list(islice(stream, 3))
    stream.close()
    assert [len(table) for table in tables] == [2, 2, 2]
    assert consumed <= 2 * (3 + 2)


def test_threads_that_share_the_work_change_neither_order_nor_rows(classifier, paths, tmp_path):
    order = [*paths[:5], str(tmp_path / "missing.png"), *paths[5:]]
    expected = classifier.predict(order, batch_size=len(order), progress=False)
    try:
        torch.set_num_threads(3)
        table = classifier.predict(order, batch_size=2, progress=False)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    pd.testing.assert_frame_equal(table, expected, rtol=0, atol=1e-5)


# Inputs


def test_places_come_as_given_each_searched_and_sorted_and_the_parent_is_the_label_where_it_is_a_class(tmp_path):
    for name in ("red/b.png", "red/a.JPG", "red/deep/er/c.png", "red/notes.txt", "blue/z.tif", "loose.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    places = [tmp_path / "red", str(tmp_path / "red" / "notes.txt"), tmp_path / "loose.png", str(tmp_path / "blue")]
    found = {"red/a.JPG": "red", "red/b.png": "red", "red/deep/er/c.png": ""}
    named = {"red/notes.txt": "red", "loose.png": ""}  # outright, whatever the suffix
    expected = [(str(tmp_path / name), label) for name, label in {**found, **named, "blue/z.tif": ""}.items()]
    assert gather_inputs(places, ["red", "green"]) == expected


@pytest.mark.parametrize("place, told", [("nowhere", "no such file"), ("empty", "no pictures")])
def test_a_place_that_is_not_there_or_has_no_pictures_is_told(place, told, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"{tmp_path / place}: {told}"):
        gather_inputs([tmp_path / place])
