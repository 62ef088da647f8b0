"""Which settings of a training run count for nothing."""

from dataclasses import fields

import pytest

from cepcli.agents.config import LearnerConfig, PosteriorConfig, TrainConfig
from cepcli.cache.config import CacheConfig
from cepcli.runs.settings import _OF_MODES, _OF_POSTERIORS, _OF_SCHEDULES, idle_training_settings


def cache_keys(**cache):
    config = TrainConfig(prior="llm", cache=CacheConfig(**cache))
    return {key.removeprefix("cache.") for key in idle_training_settings(config) if "cache." in key}


def test_every_key_of_the_tables_is_a_setting():
    assert _OF_MODES.keys() <= {field.name for field in fields(CacheConfig)}
    posterior = {field.name for field in fields(PosteriorConfig)}
    assert _OF_POSTERIORS.keys() | _OF_SCHEDULES.keys() <= posterior


@pytest.mark.parametrize(
    ("mode", "without"),
    [
        ("exact", {"gate", "index", "pool_goals", "control_interval", "threshold", "surrogate"}),
        ("lru", {"index", "control_interval", "surrogate"}),
        ("surrogate", {"index"}),
        ("certified", {"gate", "threshold", "surrogate"}),
    ],
)
def test_a_mode_has_no_use_for_settings_of_other_modes(mode, without):
    of_modes = {"gate", "index", "pool_goals", "control_interval", "threshold", "surrogate"}
    assert cache_keys(mode=mode) & of_modes == without


def test_an_index_can_be_chosen_where_there_is_no_gate():
    assert "index" not in cache_keys(mode="lru", gate="off")


def test_candidates_count_where_the_backup_draws_some():
    posterior, learner = PosteriorConfig(mode="exact"), LearnerConfig(backup="max-candidates")
    found = idle_training_settings(TrainConfig(posterior=posterior, learner=learner))
    assert not {"posterior.candidates", "posterior.with_replacement"} & found.keys()
    assert {"posterior.epsilon", "posterior.exploration"} <= found.keys()
    assert "posterior.candidates" in idle_training_settings(TrainConfig(posterior=posterior))
