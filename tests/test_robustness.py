"""The table of the robust recipe's parts: that it is made, of the right rows, and that it takes up where it stood."""

import importlib.util

import pandas as pd

from planetlib.settings import PROJECT

spec = importlib.util.spec_from_file_location("robustness", PROJECT / "benchmarks" / "robustness.py")
robustness = importlib.util.module_from_spec(spec)
spec.loader.exec_module(robustness)


def run(out, *variants) -> pd.DataFrame:
    options = ["--profile", "short", "--seeds", "0", "--out", str(out), "--variants", *variants]
    assert robustness.main(options) == 0
    return pd.read_csv(out / "scores.csv")


def test_the_short_profile_makes_the_table_and_repeats_it_from_the_runs(tmp_path, capsys):
    scores = run(tmp_path, "robust", "reference", "robust, trained on renders too")
    assert scores.recipe.tolist() == ["robust", "head only", "reference", "robust, trained on renders too"]
    shares = scores.drop(columns=["recipe", "seed"])
    assert shares.shape[1] == 11 and shares.iloc[:, -2:].isna().all(axis=None)  # all of its classes are known
    assert ((shares >= 0) & (shares <= 100)).iloc[:, :-2].all(axis=None)
    table = capsys.readouterr().out
    assert table.strip() == (tmp_path / "table.md").read_text(encoding="utf-8").strip()
    assert table.splitlines()[0].startswith("| recipe | planets, test | planets, without copies | renders, balanced |")
    trained = (tmp_path / "robust" / "seed0" / "finetune.pt").stat().st_mtime_ns
    again = run(tmp_path, "robust", "reference", "robust, trained on renders too")
    pd.testing.assert_frame_equal(again, scores)
    assert (tmp_path / "robust" / "seed0" / "finetune.pt").stat().st_mtime_ns == trained


def test_pictures_trained_on_are_not_scored():
    samples = robustness.split_samples(robustness.check_samples(robustness.find_samples(robustness.FIXTURE)))
    renders = robustness.find_samples(robustness.FIXTURE)
    renders.loc[renders.label == "mars", "label"] = "venus"
    trained, scored = robustness.add_renders(samples, {"renders": renders, "photos": renders}, 0)
    more = trained[len(samples) :]
    assert set(more.split) == {"train", "val", "test"} and "venus" not in set(more.label)
    seen = set(more.path[more.split != "test"])
    assert not seen & set(scored["renders"].path) and "venus" in set(scored["renders"].label)
    assert len(seen) + len(scored["renders"]) == len(renders) == len(scored["photos"])


def test_a_mean_comes_with_half_the_range_of_the_seeds():
    scores = pd.DataFrame({"recipe": ["robust"] * 2, "seed": [0, 1], "photos, balanced": [90.0, 93.0]})
    assert robustness.make_table(scores).splitlines()[-1] == "| robust | 91.5 ± 1.5 |"


def test_unknowns_are_told_by_their_score_or_by_low_confidence():
    table = pd.DataFrame({
        "label": ["mars", "mars", "venus", "venus"], "confidence": [0.9, 0.8, 0.7, 0.85], "prob_mars": 0.5,
        "unknown_score": [0.1, 0.2, 0.9, 0.8],
    })  # fmt: skip
    assert robustness.score_unknown_kinds(table, table) == {"unknowns, AUROC": 100, "unknowns, let through": 0}
    by_confidence = robustness.score_unknown_kinds(table.assign(unknown_score=float("nan")), table)
    assert by_confidence["unknowns, AUROC"] == 75
