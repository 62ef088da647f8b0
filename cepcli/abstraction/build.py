"""Annotations, rollouts and a prior in; an artifact of kind "abstraction" out.

Example: cep abstract train --env walker2d
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray

from cepcli.abstraction.annotated import (
    WHOLE,
    Annotated,
    Rollout,
    SentenceForm,
    infer_form,
    mislabelled,
)
from cepcli.abstraction.fitting import (
    Fitter,
    KnownPriors,
    Labelled,
    Losses,
    Rewarded,
    discounted,
)
from cepcli.abstraction.judge import HeldOut, judge, plot_map
from cepcli.abstraction.state_encoder import (
    StateEncoder,
    feature_scale,
    point_pairs,
    standardised,
    with_distances,
)
from cepcli.abstraction.states import UNKNOWN, Abstraction, Bank
from cepcli.config import build, read_toml, write_toml
from cepcli.envs.control import ControlSpec
from cepcli.errors import ArtifactError, ConfigError
from cepcli.keys.config import AbstractionConfig
from cepcli.keys.encoder import TextEncoder
from cepcli.keys.head import spans_within
from cepcli.keys.key_encoder import Notify, make_encoder
from cepcli.keys.quality import prior_table
from cepcli.seeding import generator
from cepcli.types import TextState
from cepcli.workspace.artifacts import Artifact, Input, Workspace, write_json, writing

REPORT, MAP = "report.json", "map.png"
#: Log-probabilities over the primitives, of each state.
AskPrior = Callable[[Sequence[TextState]], Float[ndarray, "states actions"]]
_LEAST_STATES, _LEAST_TRAINING = 10, 8
_VALUE_HELDOUT = 0.2
_LEAST_RELEVANCE = 0.1
_USUAL = 0.9


class Sources(NamedTuple):
    """What an abstraction is made from.

    Attributes:
        spec: of an environment of the family: features, and primitives in the order of priors.
        annotated: labelled states.
        rollouts: unlabelled ones.
        prior: name of the prior that is asked.
        inputs: for the manifest.
    """

    spec: ControlSpec
    annotated: Annotated
    rollouts: Sequence[Rollout]
    prior: str
    inputs: Sequence[Input]


def build_abstraction(
    sources: Sources,
    config: AbstractionConfig,
    workspace: Workspace,
    name: str,
    ask: AskPrior,
    *,
    overwrite: bool = False,
    notify: Notify = lambda text: None,
) -> Artifact:
    """Train, judge and store the abstraction `name`, whose lock the caller holds.

    The same for the same arguments.

    Raises:
        ArtifactError: if the name is taken, or there are too few annotations.
        ConfigError: if the training diverges.
    """
    _check(sources)
    workspace.check_new("abstraction", name, overwrite=overwrite)
    words = make_encoder(config.encoder, notify=notify)
    trained = train_abstraction(sources, config, words, ask, notify)
    report = judge(trained.abstraction, trained.heldout, config.margin)
    folder = workspace.begin("abstraction", name, overwrite=overwrite)
    with writing(workspace.root):
        trained.abstraction.save(folder)
        trained.heldout.save(folder)
        keys = trained.abstraction.keys(trained.heldout.annotated.observations)
        plot_map(trained.abstraction, keys, folder / MAP)
        report["training"] = {"prior": sources.prior, **trained.training}
        write_json(folder / REPORT, report)
        write_toml(folder / "config.toml", config)
    return workspace.finish("abstraction", name, seed=config.seed, inputs=sources.inputs)


def is_made_so(
    workspace: Workspace, name: str, config: AbstractionConfig, inputs: Sequence[Input]
) -> bool:
    """Whether the abstraction `name` of the workspace is finished and was made from just these."""
    if not workspace.exists("abstraction", name):
        return False
    artifact = workspace.open("abstraction", name)
    made_from = [(found["kind"], found["sha256"]) for found in artifact.manifest["inputs"]]
    same = made_from == [(found.kind, found.sha256) for found in inputs]
    return same and build(AbstractionConfig, read_toml(artifact.path / "config.toml")) == config


class Trained(NamedTuple):
    """An abstraction, what judges it, and figures of its training."""

    abstraction: Abstraction
    heldout: HeldOut
    training: dict[str, Any]


def train_abstraction(
    sources: Sources,
    config: AbstractionConfig,
    words: TextEncoder,
    ask: AskPrior,
    notify: Notify = lambda text: None,
) -> Trained:
    """The three stages; see `cepcli.abstraction.fitting`."""
    annotated = sources.annotated.with_whole_texts()
    if sources.annotated.own_words:
        count, total = sources.annotated.own_words, len(annotated.texts)
        taken = (
            "each is learned as a whole" if WHOLE in annotated.slots[0] else "they have no slots"
        )
        notify(f"{count} of {total} descriptions are in free wording: {taken}")
    train, heldout = split(annotated, config)
    train = mislabelled(train, config.wrong_labels, generator(config.seed, "wrong labels"))
    lesson = _Lesson(sources, train, config, words)

    notify(f"Stage 1: contrasting {len(train.texts)} states with their descriptions")
    lesson.fitter.stage(lesson.labelled(()))
    pseudo = lesson.propagated()
    notify(f"Stage 2: the same with {len(pseudo)} states labelled by their neighbours")
    lesson.fitter.stage(lesson.labelled(pseudo))
    before = lesson.encoder()

    notify(f"Asking the prior {sources.prior} about the annotated descriptions")
    actions = sources.spec.actions
    true = ask([*train.states(actions), *heldout.states(actions)])
    notify("Stage 3: joining prior divergence and value")
    spans = _spans(train.goals, true[: len(train.goals)])
    known = KnownPriors(
        lesson.inputs(train.observations), spans, config.kappa or usual_bound(spans)
    )
    rewarded, judged = lesson.rewarded()
    losses = lesson.fitter.stage(lesson.labelled(pseudo), known, rewarded)

    abstraction = lesson.abstraction()
    said = heldout._replace(texts=tuple(abstraction.texts(heldout.observations)))
    notify("Asking the prior about what the abstraction says of held-out states")
    judging = HeldOut(
        annotated=heldout,
        described=abstraction.encoder.texts(words.encode_many(heldout.texts)),
        log_priors=true,
        log_priors_described=ask(said.states(actions)),
        keys_before=before.keys(np.concatenate([train.observations, heldout.observations])),
        goals=_numbered([*train.goals, *heldout.goals]),
    )
    return Trained(abstraction, judging, lesson.figures(losses, judged))


def split(annotated: Annotated, config: AbstractionConfig) -> tuple[Annotated, Annotated]:
    """States to learn from, and states that only judge."""
    count = len(annotated.texts)
    order = generator(config.seed, "heldout").permutation(count)
    size = max(1, round(config.heldout * count))
    if count - size < _LEAST_TRAINING:
        raise ConfigError(
            f"`heldout` is {config.heldout:g}, which leaves {max(0, count - size)} of {count} "
            f"annotations to learn from, expected at least {_LEAST_TRAINING}.",
            "Set a smaller heldout, or annotate more states.",
        )
    return annotated.take(np.sort(order[size:])), annotated.take(np.sort(order[:size]))


class _Lesson:
    """What stays the same over the stages: features in standard deviations, codes, embeddings."""

    def __init__(
        self, sources: Sources, train: Annotated, config: AbstractionConfig, words: TextEncoder
    ) -> None:
        self._sources, self._train, self._config, self._words = sources, train, config, words
        self._actions, self._pairs = sources.spec.actions, point_pairs(sources.spec.features)
        self._random = generator(config.seed, "rollouts")
        self._form = infer_form(train.texts, train.slots)
        self._phrases = tuple(
            tuple(dict.fromkeys(row[slot] for row in train.slots if slot in row))
            for slot in self._form.slots
        )
        self._codes = _codes(train, self._form, self._phrases, self._actions)
        self._phrase_vectors = tuple(
            words.encode_many([f"{slot}: {phrase}" for phrase in phrases])
            for slot, phrases in zip(self._form.slots, self._phrases, strict=True)
        )
        self._pool = self._drawn()
        annotated, pool = (
            with_distances(part, self._pairs) for part in (train.observations, self._pool)
        )
        self._mean, self._scale = feature_scale(np.concatenate([annotated, pool]))
        self._scale = self._scale / relevance(annotated, self._codes[:, :-1])
        self._pool_codes = np.zeros((0, self._codes.shape[1]), np.int64)
        self.fitter = Fitter(len(self._mean), words.dim, config, generator(config.seed, "fit"))

    def inputs(
        self, observations: Float[ndarray, "states features"]
    ) -> Float32[ndarray, "states inputs"]:
        """Standardised features and distances."""
        points = with_distances(observations, self._pairs)
        return standardised(points, self._mean, self._scale)

    def encoder(self) -> StateEncoder:
        """The encoder as trained so far."""
        return self.fitter.encoder(self._pairs, self._mean, self._scale)

    def propagated(self) -> Int[ndarray, " states"]:
        """Which unlabelled states take their neighbours' labels now."""
        keys = self.encoder().keys(self._train.observations)
        vote = self._bank(keys, self._codes).vote(self.encoder().keys(self._pool))
        self._pool_codes = vote.codes
        return np.flatnonzero(vote.lead >= self._config.margin)

    def labelled(self, pseudo: Sequence[int] | Int[ndarray, " states"]) -> Labelled:
        """The annotations, and the unlabelled states `pseudo` with the labels they took."""
        chosen = np.asarray(pseudo, np.int64)
        texts = [*self._train.texts, *map(self._composed, self._pool_codes[chosen])]
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        observations = np.concatenate([self._train.observations, self._pool[chosen]])
        vectors = self._words.encode_many(list(rows))
        numbers = np.array([rows[text] for text in texts])
        codes = np.concatenate([self._codes, self._pool_codes[chosen]])[:, :-1]
        return Labelled(self.inputs(observations), numbers, vectors, codes, self._phrase_vectors)

    def rewarded(self) -> tuple[Rewarded | None, Rewarded | None]:
        """Discounted rewards to learn from, and from other rollouts to judge by; None without."""
        rollouts = self._sources.rollouts
        if len(rollouts) < 2:
            return None, None
        values = discounted([rollout.rewards for rollout in rollouts], self._config.discount)
        together = np.concatenate(values)
        centre, spread = together.mean(), together.std() or 1.0
        judging = max(1, round(_VALUE_HELDOUT * len(rollouts)))
        order = self._random.permutation(len(rollouts))

        def part(chosen: Int[ndarray, " rollouts"]) -> Rewarded:
            observations = np.concatenate([rollouts[i].observations for i in chosen])
            standard = (np.concatenate([values[i] for i in chosen]) - centre) / spread
            return Rewarded(self.inputs(observations), standard.astype(np.float32))

        return part(order[judging:]), part(order[:judging])

    def abstraction(self) -> Abstraction:
        """What has been learned, with every state whose labels are clear in the bank."""
        chosen = self.propagated()
        keys = self.encoder().keys(np.concatenate([self._train.observations, self._pool[chosen]]))
        codes = np.concatenate([self._codes, self._pool_codes[chosen]])
        spec = self._sources.spec
        return Abstraction(
            spec.family, tuple(feature.name for feature in spec.features), spec.feature_sha256,
            self.encoder(), self._bank(keys, codes), self._form, self._phrases, self._actions,
        )  # fmt: skip

    def figures(self, losses: Losses, judged: Rewarded | None) -> dict[str, Any]:
        """Of the training, for the report."""
        figures: dict[str, Any] = {
            "annotations": len(self._train.texts),
            "goals": sorted({*self._train.goals}),
            "unlabelled": len(self._pool),
            "propagated": len(self.propagated()),
            **{f"{loss}_loss": value for loss, value in losses._asdict().items()},
        }
        if judged is not None:
            error = self.fitter.values(judged.inputs) - judged.values
            figures["value_r2"] = 1.0 - float((error**2).mean() / max(judged.values.var(), 1e-12))
        return figures

    def _bank(
        self, keys: Float32[ndarray, "entries dim"], codes: Int[ndarray, "entries questions"]
    ) -> Bank:
        counts = [*map(len, self._phrases), len(self._actions)]
        annotated = np.arange(len(keys)) < len(self._codes)
        return Bank(keys, codes, annotated, counts, self._config.neighbours)

    def _composed(self, codes: Int[ndarray, " questions"]) -> str:
        pairs = zip(self._phrases, codes[:-1], strict=True)
        return self._form.compose([phrases[code] for phrases, code in pairs])

    def _drawn(self) -> Float[ndarray, "states features"]:
        """Unlabelled states: so many of the rollouts', at random, in their order."""
        parts = [rollout.observations for rollout in self._sources.rollouts]
        pool = np.concatenate([np.zeros((0, len(self._sources.spec.features))), *parts])
        chosen = self._random.permutation(len(pool))[: self._config.rollout_states]
        return pool[np.sort(chosen)]


def relevance(
    observations: Float[ndarray, "states features"], codes: Int[ndarray, "states slots"]
) -> Float32[ndarray, " features"]:
    """How much each feature tells of the slot it tells most of, `_LEAST_RELEVANCE` to 1.

    The root of the correlation ratio η²: the share of its variance that lies between the phrases of
    a slot, relative to the best feature of that slot. With a few hundred states and a hundred
    features, most of which say nothing of what is described, it keeps the encoder from learning
    those by heart.
    """
    found = np.zeros(observations.shape[1])
    for column in codes.T:
        known = observations[column != UNKNOWN]
        labels = column[column != UNKNOWN]
        total = ((known - known.mean(0)) ** 2).sum(0)
        between = np.zeros_like(total)
        for label in np.unique(labels):
            part = known[labels == label]
            between += len(part) * (part.mean(0) - known.mean(0)) ** 2
        share = np.sqrt(np.where(total > 0, between / np.where(total > 0, total, 1.0), 0.0))
        found = np.maximum(found, share / max(float(share.max()), _LEAST_RELEVANCE))
    return np.maximum(found, _LEAST_RELEVANCE).astype(np.float32)


def _codes(
    train: Annotated,
    form: SentenceForm,
    phrases: tuple[tuple[str, ...], ...],
    actions: tuple[str, ...],
) -> Int[ndarray, "states questions"]:
    """The labels of annotations as numbers; the primitive comes last."""
    codes = np.full((len(train.texts), len(form.slots) + 1), UNKNOWN, np.int64)
    for row, slots, primitive in zip(codes, train.slots, train.primitives, strict=True):
        for question, slot in enumerate(form.slots):
            if slot in slots:
                row[question] = phrases[question].index(slots[slot])
        row[-1] = actions.index(primitive)
    return codes


def _spans(
    goals: Sequence[str], log_priors: Float[ndarray, "states actions"]
) -> Float32[ndarray, "states states"]:
    """Span of the priors of every pair of states with one goal; NaN for other pairs."""
    numbers = _numbered(goals)
    groups = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    table = prior_table([{str(a): p for a, p in enumerate(row)} for row in log_priors.tolist()])
    return spans_within(table, groups)


def usual_bound(spans: Float32[ndarray, "states states"]) -> float:
    """A third of what span²/8 of nine tenths of the pairs keeps to; 1 nat where all are the same.

    Keys whose priors reach that should then stand 95 % of the way to a right angle.
    """
    known = spans[~np.isnan(spans)]
    bound = float(np.quantile(known, _USUAL)) ** 2 / 8.0 if len(known) else 0.0
    return bound / 3.0 or 1.0


def _numbered(goals: Sequence[str]) -> Int[ndarray, " states"]:
    """Each goal as a number, in order of appearance."""
    numbers = {goal: number for number, goal in enumerate(dict.fromkeys(goals))}
    return np.array([numbers[goal] for goal in goals])


def require_enough(count: int, family: str, name: str | None = None) -> None:
    """Refuse fewer annotations than can be learned from; `name` is theirs, if not the family's."""
    if count < _LEAST_STATES:
        raise ArtifactError(
            f"{count} annotated states of {family} are too few, expected at least {_LEAST_STATES}.",
            f"Make more: cep annotate auto --env {family}" + (f" --name {name}" if name else ""),
        )


def _check(sources: Sources) -> None:
    """Refuse what cannot be learned from, in one sentence."""
    annotated, spec = sources.annotated, sources.spec
    require_enough(len(annotated.texts), spec.family)
    unknown = sorted(set(annotated.primitives) - set(spec.actions))
    if unknown:
        raise ArtifactError(
            f"The annotations name the primitive `{unknown[0]}`, which {spec.family} does not "
            "have.",
            f"Its primitives are: {', '.join(spec.actions)}.",
        )
    count, expected = annotated.observations.shape[1], len(spec.features)
    if count != expected:
        raise ArtifactError(
            f"The annotations have {count} features, {spec.family} has {expected}.",
            "They were made for another version of the environment; make them again.",
        )
