"""Few-shot tuning of a prior: a LoRA adapter, trained on which action the expert chose.

The loss is the cross-entropy of the expert's action under the softmax of the normalised scores of
the admissible actions: the quantity the prior is used for, not the likelihood of the text. One row
holds several decisions below their shared prefix, so a step costs one forward and backward pass
over few hundred tokens.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cepcli.errors import PriorError
from cepcli.prior.base import PriorShape
from cepcli.prior.config import FinetuneConfig, Normalisation
from cepcli.prior.llm import LLMPrior
from cepcli.prior.local.hf import HFScorer, tree_log_likelihoods
from cepcli.prior.local.language_model import LanguageModel
from cepcli.prior.local.token_tree import Branch, build_tree, pack
from cepcli.prior.prompts import PromptTemplate, shortened
from cepcli.prior.tuning.evaluate import quality
from cepcli.prior.tuning.lessons import Lesson, ask_lessons
from cepcli.prior.tuning.lora import Adapter, Checkpoint, Weights, moments, set_moments
from cepcli.seeding import generator

#: Row length of a validation pass.
_VALIDATION_ROW_TOKENS = 512
#: Seconds after which a tuning is saved between validations, too.
_KEEP_SECONDS = 60.0


class TuningStep(NamedTuple):
    """What a progress display shows after each step."""

    step: int
    steps: int
    loss: float
    validation_nll: float | None


@dataclass(slots=True)
class _Progress:
    """Counters of a tuning; all of it is in the checkpoint. `loss` is that of the last step."""

    step: int = 0
    loss: float = 0.0
    best_step: int = 0
    best_nll: float = float("inf")
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def subset(lessons: Sequence[Lesson], size: int, seed: int) -> list[Lesson]:
    """At most `size` of the lessons, drawn at random, in their order."""
    if len(lessons) <= size:
        return list(lessons)
    chosen = generator(seed, "validation").choice(len(lessons), size, replace=False)
    return [lessons[i] for i in sorted(chosen)]


def batch_at(count: int, size: int, step: int, seed: int) -> list[int]:
    """Which of `count` decisions are learnt from at `step`: each once per epoch, then reshuffled.

    A pure function of the step, so a resumed tuning sees the batches it would have seen.
    """
    indices = []
    for position in range(step * size, (step + 1) * size):
        epoch, place = divmod(position, count)
        indices.append(int(generator(seed, f"batch/{epoch}").permutation(count)[place]))
    return list(dict.fromkeys(indices))


def planned_steps(config: FinetuneConfig, decisions: int) -> int:
    """Gradient steps for so many decisions, unless patience runs out before."""
    steps = math.ceil(config.epochs * decisions / config.batch_decisions)
    return min(config.max_steps, max(config.min_steps, steps))


def learning_rate_at(step: int, steps: int, config: FinetuneConfig) -> float:
    """Linear warm-up to the peak, then linear to zero at `steps`."""
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    left = (steps - step) / max(1, steps - config.warmup_steps)
    return config.learning_rate * min(warm, left)


def candidate_loss(
    language_model: LanguageModel, lessons: Sequence[Lesson], config: FinetuneConfig
) -> Tensor:
    """Sum over decisions of −log softmax(scores)[expert's action], by one row."""
    branches = [_branch(language_model, lesson, config) for lesson in lessons]
    scores = tree_log_likelihoods(language_model, build_tree(branches))
    total = scores.new_zeros(())
    rows = scores.split([len(branch.continuations) for branch in branches])
    for row, branch, (_, decision) in zip(rows, branches, lessons, strict=True):
        if config.normalisation == "mean":
            row = row / torch.tensor([len(c) for c in branch.continuations], device=row.device)
        total = total - row.log_softmax(-1)[decision.label]
    return total


def prior_maker(
    language_model: LanguageModel,
    config: FinetuneConfig,
    shape: PriorShape,
    *,
    normalisation: Normalisation | None = None,
    row_tokens: int | None = None,
) -> Callable[[PromptTemplate], LLMPrior]:
    """The prior that a model is under each prompt template, set up as in a tuning."""

    def prior_of(template: PromptTemplate) -> LLMPrior:
        tokens = row_tokens or config.row_tokens
        scorer = HFScorer(language_model, template=template.version, row_tokens=tokens)
        chosen = normalisation or config.normalisation
        return LLMPrior(scorer, template, chosen, shape, config.text_tokens)

    return prior_of


class Tuner:
    """Trains an adapter on `train`, keeps the one that is best on `validation`.

    The language model gets the adapter and is of no other use afterwards. The checkpoint is a file
    from which a tuning goes on that was killed or interrupted; it is written at every validation,
    every minute, and when it is interrupted.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        train: Sequence[Lesson],
        validation: Sequence[Lesson],
        config: FinetuneConfig,
        checkpoint: Path,
    ) -> None:
        self._lm = language_model
        self._train = list(train)
        self._validation = subset(validation, config.validation_decisions, config.seed)
        self._config = config
        self._steps = planned_steps(config, len(self._train))
        self._checkpoint = checkpoint
        self.adapter = Adapter(language_model, config)
        parameters = list(self.adapter.parameters.values())
        self._optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0)
        self._progress = _Progress()
        self._is_whole = True  # not in the midst of what a checkpoint must have all of
        self._saved = time.monotonic()
        self._best: Weights = self.adapter.weights()
        if checkpoint.is_file():
            self._restore()

    @property
    def history(self) -> list[dict[str, float]]:
        """One row per validation: step, training loss, validation NLL and top-1."""
        return self._progress.history

    def run(self, on_step: Callable[[TuningStep], None] | None = None) -> None:
        """Train as planned or until patience runs out; leave the best weights in place.

        An interruption saves what was done before it goes on upwards.
        """
        try:
            self._go_on(on_step)
        except KeyboardInterrupt:
            if self._is_whole:
                self._save()
            raise
        self.adapter.set_weights(self._best)

    def _go_on(self, on_step: Callable[[TuningStep], None] | None) -> None:
        progress = self._progress
        told = progress.step
        while True:
            nll = None
            if self._is_to_validate():
                nll = self._validate()
                self._save()
            elif time.monotonic() - self._saved >= _KEEP_SECONDS:
                self._save()
            if on_step and progress.step > told:
                on_step(TuningStep(progress.step, self._steps, progress.loss, nll))
            if progress.step >= self._steps or progress.stale >= self._config.patience:
                return

            told = progress.step
            self._step()

    def _is_to_validate(self) -> bool:
        """Whether a validation is due that has not been made yet."""
        step, history = self._progress.step, self._progress.history
        due = step > 0 and (step % self._config.evaluate_every == 0 or step == self._steps)
        return due and not (history and history[-1]["step"] == step)

    def _step(self) -> None:
        """One gradient step on the mean loss of a batch."""
        config, step = self._config, self._progress.step
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self._steps, config)
        chosen = batch_at(len(self._train), config.batch_decisions, step, config.seed)
        batch = [self._train[i] for i in chosen]
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for row in self._rows(batch):
            loss = candidate_loss(self._lm, row, config) / len(batch)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(list(self.adapter.parameters.values()), 1.0)
        self._is_whole = False
        self._optimizer.step()
        self._progress.step, self._progress.loss = step + 1, total
        self._is_whole = True

    def _rows(self, batch: list[Lesson]) -> list[list[Lesson]]:
        """The batch cut so that each part fits one row."""
        branches = [_branch(self._lm, lesson, self._config) for lesson in batch]
        rows = pack([branch.size for branch in branches], self._config.row_tokens)
        return [[batch[i] for i in row] for row in rows]

    def _validate(self) -> float:
        """NLL on the validation decisions at temperature 1; keeps the weights if they are best."""
        shape = PriorShape(smoothing=self._config.smoothing)
        prior_of = prior_maker(self._lm, self._config, shape, row_tokens=_VALIDATION_ROW_TOKENS)
        answers = ask_lessons(prior_of, self._validation)
        labels = [lesson.decision.label for lesson in self._validation]
        found = quality([a.log_prior for a in answers], labels)
        progress = self._progress
        self._is_whole = False
        progress.history.append(
            {"step": progress.step, "loss": progress.loss, "nll": found.nll, "top1": found.top1}
        )
        progress.stale += 1
        if found.nll < progress.best_nll:
            progress.best_nll, progress.best_step, progress.stale = found.nll, progress.step, 0
            self._best = self.adapter.weights()
        self._is_whole = True
        return found.nll

    def _save(self) -> None:
        current, momenta = self.adapter.weights(), moments(self._optimizer, self.adapter)
        checkpoint = Checkpoint(current, self._best, momenta, asdict(self._progress))
        checkpoint.write(self._checkpoint)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        try:
            saved = Checkpoint.read(self._checkpoint)
            self._progress = _Progress(**saved.progress)
            for weights in (saved.best, saved.current):
                self.adapter.set_weights(weights)
            self._best = saved.best
            set_moments(self._optimizer, self.adapter, saved.moments, self._progress.step)
        except (KeyError, TypeError, ValueError) as error:
            folder = self._checkpoint.parent
            raise PriorError(
                f"Cannot resume the unfinished tuning in `{folder}`: its checkpoint is damaged or "
                f"of another version of cep ({error}).",
                f"Start over: rm -r {folder}",
            ) from error


def _branch(model: LanguageModel, lesson: Lesson, config: FinetuneConfig) -> Branch:
    state = lesson.decision.state
    text = shortened(state.text, config.text_tokens, model.count)
    return model.branch(lesson.template.render(replace(state, text=text)), state.actions)
