"""A cache opened around a prior."""

import pytest

from cepcli.cache.config import CacheConfig
from cepcli.cache.open import open_cache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.types import TextState
from tests.fakes import NAMESPACE, FakePrior

STATE = TextState("go", "a door", ("open", "close"))


def opened(mode):
    config = CacheConfig(mode=mode, encoder="hash")
    return open_cache(FakePrior(), config, NAMESPACE, seed=0)


@pytest.mark.parametrize("mode", ["exact", "certified"])
def test_what_was_asked_once_is_a_hit(mode):
    cache = opened(mode)
    first, again = (cache.prior().log_probs([STATE])[0] for _ in range(2))
    assert (first.kind, again.kind) == ("miss", "exact")
    assert first.log_prior.tolist() == again.log_prior.tolist()
    assert cache.telemetry.decisions == 2


def test_only_modes_that_compare_texts_have_keys():
    assert opened("exact").controller.keys is None
    keyed = opened("certified")
    assert keyed.controller.keys is not None
    assert (
        keyed.cache.namespace.key_encoder_sha256
        == keyed.controller.keys.namespace.key_encoder_sha256
    )


def test_a_frozen_view_answers_and_changes_nothing():
    cache, apart = opened("exact"), CacheTelemetry(0.9)
    cache.prior().log_probs([STATE])
    other = TextState("go", "a wall", ("open", "close"))
    kinds = [answer.kind for answer in cache.frozen(apart).log_probs([STATE, other])]
    assert kinds == ["exact", "miss"]
    assert (len(cache.cache), cache.telemetry.decisions, apart.decisions) == (1, 1, 2)
