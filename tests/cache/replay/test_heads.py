"""Where a trace is cut into texts that train keys and texts that judge them."""

import pytest

from cepcli.cache.replay.heads import split_of
from cepcli.keys.hashing import HashEncoder
from cepcli.keys.key_encoder import KeyEncoder
from tests.cache.worlds import trace_of

KEYS = KeyEncoder(HashEncoder(), True)


def split(order, **options):
    """A split of a trace with twenty decisions an episode."""
    texts = [f"text {number}" for number in range(max(order) + 1)]
    trace = trace_of(texts, [[0.0, 1.0, 2.0]] * len(texts), order)
    return split_of(trace, KEYS, pool_goals=True, **options)


@pytest.mark.parametrize(
    ("order", "start"),
    [
        (list(range(60)), 20),  # the middle text is in the second of three episodes
        ([*range(30), *[0] * 70, *range(30, 60)], 30),
        ([*range(4)] * 10 + [*range(4, 44)], 4),
        (list(range(20)), 10),  # one episode: cut in its middle
    ],
)
def test_no_episode_with_texts_to_judge_has_a_text_that_trains(order, start):
    found = split(order)
    assert found.start == start
    assert [text for _, text in found.states] == [f"text {n}" for n in dict.fromkeys(order)]


def test_the_trace_is_cut_where_there_are_texts_enough():
    found = split(list(range(60)), most_texts=24)
    assert (len(found.states), found.start) == (24, 12)
    assert len(found.scored.log_priors) == len(found.scored.vectors) == 24
