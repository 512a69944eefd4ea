"""The detector of pictures of none of the classes, on features that can be understood."""

import numpy as np
import pytest
import torch

from planetlib.calibrate import fit_detector, score_unknown


@pytest.fixture
def clouds() -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes and two kinds of outliers, each a cloud of 40 points about a corner of a square; 600 features."""
    rng = np.random.default_rng(0)
    corners = np.array([(1, 1), (-1, -1), (1, -1), (-1, 1)])
    numbers = np.repeat(np.arange(4), 40)
    features = corners[numbers] @ rng.normal(0, 1, (2, 600)) + rng.normal(0, 0.5, (160, 600))
    return torch.tensor(features, dtype=torch.float32), torch.tensor(numbers)


def test_outliers_score_higher_than_the_classes_even_where_no_line_parts_them(clouds):
    features, numbers = clouds
    scores = score_unknown(fit_detector(features, numbers, 2), features, 2)
    assert scores[numbers >= 2].min() > scores[numbers < 2].max()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_scale_and_offset_of_a_feature_do_not_matter(clouds):
    features, numbers = clouds
    moved = features * torch.tensor([1, 1000, 0.01]).repeat(200) + 7
    plain = score_unknown(fit_detector(features, numbers, 2), features, 2)
    torch.testing.assert_close(score_unknown(fit_detector(moved, numbers, 2), moved, 2), plain, atol=1e-3, rtol=0)


def test_a_rare_kind_is_not_outvoted_by_a_common_one(clouds):
    features, numbers = clouds
    rare = (numbers != 3) | (torch.arange(160) % 10 == 0)
    scores = score_unknown(fit_detector(features[rare], numbers[rare], 2), features, 2)
    assert scores[numbers == 3].min() > scores[numbers < 2].max()
