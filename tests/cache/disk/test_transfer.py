"""Merging saved caches and writing one as a table."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.cache.config import CacheConfig
from cepcli.cache.disk import storage
from cepcli.cache.disk.transfer import export_parquet, merge
from cepcli.cache.store import PriorCache
from cepcli.errors import ArtifactError, CacheError, ConfigError
from cepcli.types import TextState
from tests.fakes import NAMESPACE


def unit(number):
    key = np.random.default_rng(number).standard_normal(4).astype(np.float32)
    return key / np.linalg.norm(key)


def filled(numbers, mode="lru", score=-1.0, namespace=NAMESPACE):
    cache = PriorCache(CacheConfig(mode=mode, capacity=50, gate="off"), 4, namespace)
    for number in numbers:
        key = unit(number) if cache.keyed else None
        cache.insert("goal", f"text {number}", key, {"go": score})
    return cache


def loaded(tmp_path, saved, capacity=50, mode="lru"):
    storage.write(tmp_path / "merged", saved)
    config = CacheConfig(mode=mode, capacity=capacity, gate="off")
    return PriorCache.load(tmp_path / "merged", NAMESPACE, config)


def test_a_merged_cache_holds_the_entries_of_all_and_finds_them(tmp_path):
    merged = merge([filled([1, 2]).saved(), filled([3]).saved()], capacity=50)
    assert storage.defects(merged) == []
    cache = loaded(tmp_path, merged)
    assert {entry.text for entry in cache} == {"text 1", "text 2", "text 3"}
    for number in (1, 2, 3):
        found = cache.nearest(TextState("goal", "", ()), unit(number))
        assert (found.entry.text, found.similarity) == (f"text {number}", 1.0)
    cache.insert("goal", "new", unit(9), {"go": -1.0})
    assert len(cache) == 4


def test_of_one_text_the_most_recently_used_scores_stay_and_the_rest_is_joined(tmp_path):
    older, newer = filled([1, 2], score=-1.0), filled([1], score=-5.0)
    old, new = older.exact("goal", "text 1"), newer.exact("goal", "text 1")
    old.scores["stay"], new.scores["open"] = -2.0, -6.0
    for _ in range(3):
        older.use(old)
    older.insert("goal", "later", unit(7), {"go": -1.0})
    newer.use(new)
    older.audited(old, 0.5, 0.25)
    old.repels, new.repels = 0.9, 0.2
    for caches in ([older, newer], [newer, older]):
        cache = loaded(tmp_path, merge([c.saved() for c in caches], capacity=50))
        entry = cache.exact("goal", "text 1")
        assert entry.scores == {"go": -5.0, "open": -6.0, "stay": -2.0}
        assert (entry.hits, entry.audits, entry.repels) == (4, 1, 0.9)
        assert (entry.last_span, entry.last_kl) == (0.5, 0.25)


numbers = st.lists(st.integers(0, 12), max_size=12)


@given(st.lists(numbers, min_size=1, max_size=4), st.integers(1, 20))
def test_any_merge_is_sound_within_its_capacity_and_keeps_the_most_recent(groups, capacity):
    caches = [filled(group).saved() for group in groups]
    before = [[dict(record) for record in saved.entries] for saved in caches]
    merged = merge(caches, capacity=capacity)
    assert storage.defects(merged) == []
    texts = {f"text {number}" for group in groups for number in group}
    assert len(merged.entries) == min(capacity, len(texts))
    for group in groups:
        if group:
            ages = [e["last_use"] for e in merged.entries if e["text"] == f"text {group[-1]}"]
            assert ages or capacity < len(groups)
    assert [saved.entries for saved in caches] == before


def test_entries_are_inserted_in_the_order_they_were(tmp_path):
    cache = filled([1, 2, 3])
    cache.use(cache.exact("goal", "text 1"))
    merged = merge([cache.saved()], capacity=50)
    assert [entry["text"] for entry in merged.entries] == ["text 2", "text 3", "text 1"]
    assert [entry["slot"] for entry in merged.entries] == [1, 2, 0]


def test_caches_of_other_namespaces_are_refused_naming_what_differs():
    scorer = dataclasses.replace(NAMESPACE.scorer, model="another", dtype="float16")
    other = dataclasses.replace(NAMESPACE, scorer=scorer, env_family="another")
    with pytest.raises(CacheError) as error:
        merge([filled([1]).saved(), filled([2], namespace=other).saved()], capacity=5)
    assert "differ in model, dtype, env_family." in error.value.message
    assert str(NAMESPACE) in error.value.message
    assert str(other) in error.value.message
    assert "one model" in error.value.hint


def test_caches_of_other_keys_are_refused_with_what_to_do_instead():
    other = dataclasses.replace(NAMESPACE, key_encoder_sha256="another head")
    with pytest.raises(CacheError, match=r"differ in key_encoder_sha256\.") as error:
        merge([filled([1]).saved(), filled([2], namespace=other).saved()], capacity=5)
    assert "cep train --cache-from" in error.value.hint


def test_caches_with_and_without_keys_do_not_merge():
    with pytest.raises(CacheError, match="only one of them has keys"):
        merge([filled([1]).saved(), filled([2], mode="exact").saved()], capacity=5)


def test_caches_without_keys_merge(tmp_path):
    caches = [filled([n], mode="exact").saved() for n in (1, 2)]
    cache = loaded(tmp_path, merge(caches, capacity=5), mode="exact")
    assert {entry.text for entry in cache} == {"text 1", "text 2"}


def test_nothing_to_merge_or_no_room_is_an_error_and_room_for_one_is_not():
    with pytest.raises(ConfigError, match="no cache"):
        merge([], capacity=5)
    with pytest.raises(ConfigError, match="`capacity` is 0"):
        merge([filled([1]).saved()], capacity=0)
    merged = merge([filled([1, 2]).saved(), filled([3, 4]).saved()], capacity=1)
    assert len(merged.entries) == 1


def test_a_table_has_every_entry_with_its_scores_and_key(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    cache = filled([1, 2])
    cache.audited(cache.exact("goal", "text 1"), 0.5, 0.25)
    odd = cache.insert("goal", "odd \ud800", unit(3), {"go": -1.5, "stay": -0.1 - 0.2})
    cache.use(odd)
    export_parquet(cache.saved(), tmp_path / "deep" / "cache.parquet")
    table = parquet.read_table(tmp_path / "deep" / "cache.parquet")
    names = "slot goal text actions scores key hits audits last_span last_kl"
    assert table.column_names == names.split()
    rows = table.to_pylist()
    assert [row["text"] for row in rows] == ["text 1", "text 2", "odd ?"]
    assert (rows[0]["slot"], rows[0]["audits"], rows[0]["last_kl"]) == (0, 1, 0.25)
    assert (rows[2]["actions"], rows[2]["scores"]) == (["go", "stay"], [-1.5, -0.1 - 0.2])
    np.testing.assert_array_equal(np.array(rows[1]["key"], np.float32), unit(2))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["cache.parquet"]


def test_a_table_of_a_cache_without_keys_or_entries(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export_parquet(filled([1], mode="exact").saved(), tmp_path / "exact.parquet")
    assert parquet.read_table(tmp_path / "exact.parquet")["key"].to_pylist() == [None]
    export_parquet(filled([]).saved(), tmp_path / "empty.parquet")
    assert parquet.read_table(tmp_path / "empty.parquet").num_rows == 0


def test_a_table_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="not a directory"):
        export_parquet(filled([1]).saved(), tmp_path / "file" / "cache.parquet")
