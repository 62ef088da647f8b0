"""What can be set about priors and their tuning; no torch here, so that `--help` stays quick."""

from dataclasses import dataclass, field
from typing import Literal

from cepcli.config import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Settings,
    check_bounds,
    require,
    setting,
)

Normalisation = Literal["sum", "mean", "pmi"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Choice = Literal["random", "diverse", "stratified"]
#: Tokens of a state's text at most, unless set otherwise.
TEXT_TOKENS = 512
_ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class ServerConfig(Settings):
    """How a server that scores for us is asked; changes no score."""

    SECTION = "server."

    concurrency: int = setting(8, "requests under way at the same time", AT_LEAST_ONE)
    batch: int = setting(16, "actions in one request, where the server takes several", AT_LEAST_ONE)
    timeout: float = setting(120.0, "seconds for one answer", POSITIVE)
    retries: int = setting(
        5, "further attempts where there is no answer or it is unusable", NOT_NEGATIVE
    )
    backoff: float = setting(0.5, "seconds before the first of them; doubles", NOT_NEGATIVE)
    insecure: bool = setting(
        False, "whether CEP_SERVER_KEY may go to another machine over plain http"
    )


@dataclass(frozen=True, slots=True)
class PriorConfig(Settings):
    """How a language model's scores become a prior."""

    normalisation: Normalisation | None = setting(
        None,
        "sum of token log-likelihoods, mean over tokens, or pmi (minus the score after a neutral "
        "prompt); default: what the adapter was tuned with, else mean",
    )
    temperature: float | None = setting(
        None, "divides the scores; default: the adapter's fitted one, else 1", POSITIVE
    )
    smoothing: float = setting(0.05, "share of the uniform distribution in the prior", SHARE)
    template: str | None = setting(
        None,
        "prompt template: default, bare, question, or a family's; default: that of the "
        "environment's family. A tuned prior knows only the one it was tuned with",
    )
    dtype: Dtype = setting(
        "auto", "precision; auto: bfloat16 where the device has it, else float32"
    )
    row_tokens: int = setting(512, "tokens per forward pass, several states packed", AT_LEAST_ONE)
    text_tokens: int | None = setting(
        None,
        "tokens of a state's text at most, its middle is left out; default: what the adapter was "
        "tuned with, else 512",
        AT_LEAST_ONE,
    )
    thought_tokens: int = setting(32, "tokens of a thought of agent react at most", AT_LEAST_ONE)
    server: ServerConfig = field(default_factory=ServerConfig)


@dataclass(frozen=True, slots=True)
class FinetuneConfig(Settings):
    """Few-shot tuning of a language model by LoRA on expert demonstrations."""

    shots: int = setting(5, "demonstrated episodes of each environment to learn from", AT_LEAST_ONE)
    choice: Choice = setting(
        "random", "which: random, diverse (in words), stratified (actions come evenly)"
    )
    model: str = setting(
        "embedded", "embedded, gemma-3-270m, a directory, a GGUF file, or a hub id"
    )
    normalisation: Literal["sum", "mean"] = setting(
        "sum", "of the scores inside the loss, and of the prior made"
    )
    rank: int = setting(4, "rank of the adapter", AT_LEAST_ONE)
    alpha: float = setting(8.0, "scale of the adapter is alpha / rank", POSITIVE)
    targets: tuple[str, ...] = setting(_ALL_LINEAR, "linear layers that get an adapter")
    learning_rate: float = setting(3e-3, "peak, after warm-up; then linear to 0", POSITIVE)
    warmup_steps: int = setting(5, "steps of linear warm-up", NOT_NEGATIVE)
    epochs: float = setting(4.0, "passes over the decisions, within the next two", POSITIVE)
    min_steps: int = setting(24, "gradient steps at least", AT_LEAST_ONE)
    max_steps: int = setting(
        140, "gradient steps at most, also where min_steps is more", AT_LEAST_ONE
    )
    batch_decisions: int = setting(8, "decisions per step", AT_LEAST_ONE)
    evaluate_every: int = setting(12, "steps between validations", AT_LEAST_ONE)
    patience: int = setting(4, "validations without a better one before stopping", AT_LEAST_ONE)
    validation_decisions: int = setting(
        64, "held-out decisions per validation at most", AT_LEAST_ONE
    )
    smoothing: float = setting(0.05, "smoothing under which the temperature is fitted", SHARE)
    dtype: Dtype = setting("auto", "precision of the frozen model; the adapter is float32")
    row_tokens: int = setting(512, "tokens per forward and backward pass", AT_LEAST_ONE)
    text_tokens: int = setting(
        TEXT_TOKENS, "tokens of a state's text at most, as of the prior", AT_LEAST_ONE
    )
    seed: int = setting(0, "of shot choice, initialisation and batches")

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value is out of bounds, or nothing is to be tuned."""
        check_bounds(self)
        require(bool(self.targets), "`targets` is empty, expected the names of linear layers.")
