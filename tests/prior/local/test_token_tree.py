"""Token trees: what is shared, who sees whom, and which node predicts what."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.prior.local.token_tree import Branch, build_tree, pack


def test_shared_tokens_appear_once_and_last_tokens_never():
    tree = build_tree([Branch([1, 2], [[5, 6, 9], [5, 7, 9], [8]])])
    assert tree.tokens.tolist() == [1, 2, 5, 6, 7]
    assert tree.parents.tolist() == [-1, 0, 1, 2, 2]
    assert tree.depths.tolist() == [0, 1, 2, 3, 3]


def test_scored_tokens_name_their_predicting_node():
    tree = build_tree([Branch([1, 2], [[5, 6, 9], [8]])])
    assert tree.readouts.tolist() == [1, 2, 3]
    assert tree.readouts[tree.predictor].tolist() == [1, 2, 3, 1]
    assert tree.target.tolist() == [5, 6, 9, 8]
    assert tree.owner.tolist() == [0, 0, 0, 1]
    assert tree.continuations == 2


def test_node_sees_itself_and_its_ancestors_only():
    tree = build_tree([Branch([1], [[5, 6, 0], [7, 0]])])
    assert tree.tokens.tolist() == [1, 5, 6, 7]
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]
    assert tree.ancestors().astype(int).tolist() == expected


def test_two_prompts_share_their_first_tokens():
    tree = build_tree([Branch([1, 2], [[9]]), Branch([1, 3], [[9]])])
    assert tree.tokens.tolist() == [1, 2, 3]
    assert tree.parents.tolist() == [-1, 0, 0]
    assert tree.readouts.tolist() == [1, 2]


def test_a_continuation_may_replace_the_prompts_last_tokens():
    branch = Branch([1, 2, 3], [[9, 9], [7], [8]], [1, 0, 2])
    tree = build_tree([branch])
    assert tree.tokens.tolist() == [1, 2, 3, 9]
    assert tree.parents.tolist() == [-1, 0, 1, 1]
    assert tree.readouts[tree.predictor].tolist() == [1, 3, 2, 0]
    assert (branch.shared, branch.size, branch.behind(1).prompt) == (1, 7, [2, 3])


@pytest.mark.parametrize("branch", [Branch([], [[1]]), Branch([1], [[]]), Branch([1], [[2]], [1])])
def test_empty_parts_are_refused(branch):
    with pytest.raises(ValueError, match="at least one token"):
        build_tree([branch])


_tokens = st.lists(st.integers(0, 3), min_size=1, max_size=5)
_branches = st.lists(
    st.builds(Branch, _tokens, st.lists(_tokens, min_size=1, max_size=4)), min_size=1, max_size=4
)


@given(_branches)
def test_path_to_each_predictor_is_prompt_and_begun_continuation(branches):
    tree = build_tree(branches)
    mask = tree.ancestors()
    scored = iter(range(len(tree.target)))
    for branch in branches:
        for continuation in branch.continuations:
            for begun in range(len(continuation)):
                number = next(scored)
                node = tree.readouts[tree.predictor[number]]
                seen = tree.tokens[np.flatnonzero(mask[node])].tolist()
                assert seen == [*branch.prompt, *continuation[:begun]]
                assert tree.depths[node] == len(seen) - 1
                assert tree.target[number] == continuation[begun]


def test_rows_are_filled_in_order_and_an_item_may_exceed_a_row():
    assert pack([3, 4, 5, 20, 1], 10) == [[0, 1], [2], [3], [4]]
    assert pack([], 10) == []
