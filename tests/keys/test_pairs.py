import math

import numpy as np
import pytest
import torch

from cepcli import posterior as maths
from cepcli.keys.quality import pair_kl, pair_spans, prior_table

LOG = math.log
PRIORS = [
    {"left": LOG(0.5), "right": LOG(0.5)},
    {"right": LOG(0.2), "left": LOG(0.8)},
    {"left": LOG(0.1), "right": LOG(0.4), "wait": LOG(0.5)},
    {"jump": 0.0},
]
ALL = np.arange(4)


def test_table_has_a_column_per_action_and_nan_where_none_was_admissible():
    table = prior_table(PRIORS)
    assert table.shape == (4, 4)
    assert np.exp(table[1, :2]).tolist() == pytest.approx([0.8, 0.2])
    assert np.isnan(table).tolist() == [
        [False, False, True, True],
        [False, False, True, True],
        [False, False, False, True],
        [True, True, True, False],
    ]


def test_spans_by_hand_over_the_texts_own_actions():
    spans = pair_spans(prior_table(PRIORS), ALL, ALL)
    # g = log 0.8/0.5, log 0.2/0.5: span log 4; entry 2 for text 0: g up to a constant 0, log 4
    assert spans[0].tolist() == pytest.approx([0, LOG(4), LOG(4), math.nan], nan_ok=True)
    assert spans[1].tolist() == pytest.approx([LOG(4), 0, LOG(16), math.nan], nan_ok=True)
    assert spans[2].tolist() == pytest.approx([math.nan, math.nan, 0, math.nan], nan_ok=True)
    assert spans[3].tolist() == pytest.approx([math.nan] * 3 + [0], nan_ok=True)


def test_kl_by_hand_with_the_cached_prior_normalised_over_the_texts_actions():
    divergences = pair_kl(prior_table(PRIORS), ALL[:1], ALL)
    expected = 0.8 * LOG(0.8 / 0.5) + 0.2 * LOG(0.2 / 0.5)  # for entry 2 mirrored: 0.2, 0.8
    assert divergences[0].tolist() == pytest.approx([0, expected, expected, math.nan], nan_ok=True)


def test_both_agree_with_the_posterior_maths():
    generator = np.random.default_rng(0)
    logits = torch.from_numpy(generator.normal(size=(6, 5))).log_softmax(-1)
    table = logits.numpy()
    texts = np.arange(6)
    expected_spans = maths.span(logits[None], logits[:, None])
    expected_kl = maths.kl_divergence(logits[None], logits[:, None])
    assert pair_spans(table, texts, texts) == pytest.approx(expected_spans.numpy())
    assert pair_kl(table, texts, texts) == pytest.approx(expected_kl.numpy(), abs=1e-12)
