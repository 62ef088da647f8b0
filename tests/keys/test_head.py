from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cepcli.errors import CacheError, ConfigError
from cepcli.keys.config import HeadConfig
from cepcli.keys.encoder import TextEncoder, unit
from cepcli.keys.head import Head, pair_loss, train_head
from cepcli.keys.quality import hits_at_equal_kl

SMALL = HeadConfig(dim=8, hidden=32, steps=400, batch=64, weight_decay=1e-2)


def world(texts, seed=0):
    """Vectors in which a direction in the first two of 22 features alone decides the prior."""
    generator = np.random.default_rng(seed)
    angles = generator.uniform(0, 2 * np.pi, texts)
    cause = np.stack([np.cos(angles), np.sin(angles)], 1)
    vectors = unit(np.concatenate([cause, generator.normal(0, 0.5, (texts, 20))], 1))
    logits = np.concatenate([2.0 * cause, np.zeros((texts, 1))], 1)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return vectors, [dict(zip("abc", row, strict=True)) for row in log_p]


def trained(vectors, log_priors, config=SMALL, goals=None, seed=0):
    goals = np.zeros(len(vectors), int) if goals is None else goals
    generator = np.random.default_rng(seed)
    return train_head(goals, log_priors, vectors, config, generator, encoder_sha256="toy")


def test_training_earns_hits_on_texts_it_never_saw():
    vectors, priors = world(400)
    head = trained(vectors[:200], priors[:200])
    goals = np.zeros(400, int)
    keys = head.project(vectors)
    assert np.linalg.norm(keys, axis=1) == pytest.approx(np.ones(400), abs=1e-6)
    raw = hits_at_equal_kl(vectors, goals, priors, target=0.05, start=200)
    learned = hits_at_equal_kl(keys, goals, priors, target=0.05, start=200)
    assert learned.hit_rate > max(0.8, raw.hit_rate)


def test_same_arguments_give_the_same_head_and_another_seed_another():
    vectors, priors = world(60)
    config = replace(SMALL, steps=20)
    assert trained(vectors, priors, config).sha256 == trained(vectors, priors, config).sha256
    other = trained(vectors, priors, config, seed=1)
    assert trained(vectors, priors, config).sha256 != other.sha256


def test_texts_of_different_goals_are_not_compared():
    vectors, priors = world(80)
    renamed = [{action.upper(): p for action, p in prior.items()} for prior in priors[40:]]
    goals = np.repeat([0, 1], 40)
    config = replace(SMALL, steps=5)
    same = trained(vectors, priors, config, goals)
    assert trained(vectors, priors[:40] + renamed, config, goals).sha256 == same.sha256
    assert trained(vectors, priors, config).sha256 != same.sha256


def test_only_priors_over_comparable_actions_count():
    vectors, priors = world(40)
    disjoint = [
        {f"{action}{n}": p for action, p in prior.items()} for n, prior in enumerate(priors)
    ]
    with pytest.raises(CacheError, match="No two of 40 texts"):
        trained(vectors, disjoint)
    with pytest.raises(CacheError, match="No two of 40 texts"):
        trained(vectors, priors, goals=np.arange(40))
    with pytest.raises(CacheError, match="No two of 0 texts"):
        trained(vectors[:0], [])
    mixed = disjoint[:20] + priors[20:]
    assert trained(vectors, mixed, replace(SMALL, steps=5)).dim == 8


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_trained_alike_where_gradients_are_switched_off(mode):
    vectors, priors = world(60)
    config = replace(SMALL, steps=20)
    expected = trained(vectors, priors, config).sha256
    with mode():
        assert trained(vectors, priors, config).sha256 == expected
        assert not torch.ones(1, requires_grad=True).mul(1).requires_grad


def test_training_that_diverges_is_an_error_that_names_the_settings():
    vectors, priors = world(60)
    with pytest.raises(ConfigError, match="diverged at learning_rate"):
        trained(vectors, priors, replace(SMALL, learning_rate=1e30, steps=20))


def test_pair_loss_by_hand():
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], requires_grad=True)
    nan = float("nan")
    spans = torch.tensor([[nan, 2.0, 0.0], [2.0, nan, nan], [0.0, nan, nan]])
    # pairs (0, 1): d² 2, t = 2(1 − 1/e); (0, 2): d² 0.8, t = 0; weights 1/(0.5 + t)
    far = 2.0 * (1.0 - np.exp(-1.0))
    loss = pair_loss(keys, spans, kappa=0.5, margin=0.5)
    expected = ((2.0 - far) ** 2 / (0.5 + far) + 0.64 / 0.5) / (1 / (0.5 + far) + 1 / 0.5)
    assert loss.item() == pytest.approx(expected)
    far = torch.tensor([[nan, 50.0, nan], [nan, nan, nan], [nan, nan, nan]])
    assert pair_loss(keys, far, kappa=1.0, margin=0.5).item() == pytest.approx(0.0)
    nothing = pair_loss(keys, torch.full((3, 3), nan), kappa=1.0, margin=0.5)
    nothing.backward()
    assert nothing.item() == 0.0
    assert keys.grad is not None
    assert torch.isfinite(keys.grad).all()


class Toy(TextEncoder):
    dim = 9
    sha256 = "toy"

    def encode(self, text):
        return unit(np.random.default_rng(len(text)).normal(size=9)).astype(np.float32)


@pytest.fixture
def head():
    random = np.random.default_rng(0)
    arrays = {"hidden": (5, 9), "bias": (5,), "output": (4, 5)}
    return Head.of(
        {name: random.normal(size=size).astype(np.float32) for name, size in arrays.items()}, "toy"
    )


def test_keys_by_hand():
    head = Head(np.eye(2, dtype=np.float32), np.float32([0, 1]), np.float32([[3, 0], [0, 4]]), "e")
    assert head.project(np.float32([1, 0])) == pytest.approx([0.6, 0.8])
    assert head.project(np.float32([-1, 0])) == pytest.approx([0, 1])
    assert (head.dim, head.features) == (2, 2)


def test_saved_head_is_the_same_head(head, tmp_path):
    path = tmp_path / "new" / "head.safetensors"
    head.save(path)
    found = Head.load(path)
    assert found.sha256 == head.sha256
    vectors = Toy().encode_many(["a", "bb"])
    assert np.array_equal(found.project(vectors), head.project(vectors))
    assert [p.name for p in path.parent.iterdir()] == ["head.safetensors"]


def test_sha256_tells_weights_shape_and_encoder(head):
    other = {name: array.copy() for name, array in head.arrays().items()}
    other["output"][0, 0] += 1e-6
    turned = replace(head, output=head.output.reshape(5, 4))
    heads = [head, Head.of(other, "toy"), replace(head, encoder_sha256="other"), turned]
    assert len({h.sha256 for h in heads}) == 4
    assert Head.of({n: a.copy() for n, a in head.arrays().items()}, "toy").sha256 == head.sha256


def test_damaged_foreign_and_missing_files_are_named(head, tmp_path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(CacheError, match=r"head\.safetensors"):
        Head.load(path)
    head.save(path)
    whole = path.read_bytes()
    for content in (whole[:-8], whole[:5], b""):
        path.write_bytes(content)
        with pytest.raises(CacheError, match=r"head\.safetensors` is damaged"):
            Head.load(path)
    save_file(head.arrays(), path, metadata={"format": "other"})
    with pytest.raises(CacheError, match="format other"):
        Head.load(path)
    for wrong, said in (
        (replace(head, bias=head.bias * np.nan), "finite"),
        (replace(head, bias=head.bias[:2]), "fit"),
        (replace(head, output=head.output[0]), "2-d"),
    ):
        wrong.save(path)
        with pytest.raises(CacheError, match=said):
            Head.load(path)
    metadata = {"format": "cep-key-head-2", "encoder_sha256": "toy"}
    save_file({"other": head.bias}, path, metadata=metadata)
    with pytest.raises(CacheError, match="arrays"):
        Head.load(path)


@pytest.mark.parametrize(
    "values",
    [
        {"dim": 1},
        {"steps": 0},
        {"kappa": 0.0},
        {"batch": 1},
        {"weight_decay": -1.0},
        {"margin": -1.0},
    ],
)
def test_settings_that_cannot_work_are_refused(values):
    with pytest.raises(ConfigError, match=f"head.{next(iter(values))}"):
        HeadConfig(**values)
