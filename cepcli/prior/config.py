"""What can be set about priors and their tuning; no torch here, so that `--help` stays quick."""

from dataclasses import dataclass, field
from typing import Literal

from cepcli.config import require

Normalisation = Literal["sum", "mean", "pmi"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Choice = Literal["random", "diverse", "stratified"]
#: Tokens of a state's text at most, unless set otherwise.
TEXT_TOKENS = 512
_ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How a server that scores for us is asked; changes no score."""

    concurrency: int = field(
        default=8, metadata={"help": "requests under way at the same time, >= 1"}
    )
    batch: int = field(
        default=16,
        metadata={"help": "actions in one request, where the server takes several; >= 1"},
    )
    timeout: float = field(default=120.0, metadata={"help": "seconds for one answer, > 0"})
    retries: int = field(
        default=5, metadata={"help": "further attempts where there is none or it is unusable, >= 0"}
    )
    backoff: float = field(
        default=0.5, metadata={"help": "seconds before the first of them; doubles; >= 0"}
    )
    insecure: bool = field(
        default=False,
        metadata={"help": "whether CEP_SERVER_KEY may go to another machine over plain http"},
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("concurrency", "batch"):
            value = getattr(self, name)
            require(value >= 1, f"`server.{name}` is {value}, expected at least 1.")
        for name in ("retries", "backoff"):
            value = getattr(self, name)
            require(value >= 0, f"`server.{name}` is {value}, expected 0 or more.")
        require(self.timeout > 0, f"`server.timeout` is {self.timeout}, expected above 0.")


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """How a language model's scores become a prior."""

    normalisation: Normalisation | None = field(
        default=None,
        metadata={
            "help": "sum of token log-likelihoods, mean over tokens, or pmi (minus the score after "
            "a neutral prompt); default: what the adapter was tuned with, else mean"
        },
    )
    temperature: float | None = field(
        default=None,
        metadata={"help": "divides the scores, > 0; default: the adapter's fitted one, else 1"},
    )
    smoothing: float = field(
        default=0.05,
        metadata={"help": "share of the uniform distribution in the prior, 0 to 1"},
    )
    template: str | None = field(
        default=None,
        metadata={
            "help": "prompt template: default, bare, question, or a family's; default: that of the "
            "environment's family. A tuned prior knows only the one it was tuned with"
        },
    )
    dtype: Dtype = field(
        default="auto",
        metadata={"help": "precision; auto: bfloat16 where the device has it, else float32"},
    )
    row_tokens: int = field(
        default=512, metadata={"help": "tokens per forward pass, several states packed, >= 1"}
    )
    text_tokens: int | None = field(
        default=None,
        metadata={
            "help": "tokens of a state's text at most, its middle is left out; default: what the "
            "adapter was tuned with, else 512"
        },
    )
    thought_tokens: int = field(
        default=32, metadata={"help": "tokens of a thought of agent react at most, >= 1"}
    )
    server: ServerConfig = field(default_factory=ServerConfig)

    def __post_init__(self) -> None:
        """Check ranges."""
        require(
            self.temperature is None or self.temperature > 0,
            f"`temperature` is {self.temperature}, expected a number above 0.",
        )
        require(
            0 <= self.smoothing <= 1,
            f"`smoothing` is {self.smoothing}, expected a number from 0 to 1.",
        )
        for name in ("row_tokens", "thought_tokens", "text_tokens"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"`{name}` is {value}, expected at least 1.")


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """Few-shot tuning of a language model by LoRA on expert demonstrations."""

    shots: int = field(
        default=5,
        metadata={"help": "demonstrated episodes of each environment to learn from, >= 1"},
    )
    choice: Choice = field(
        default="random",
        metadata={"help": "which: random, diverse (in words), stratified (actions come evenly)"},
    )
    model: str = field(
        default="embedded",
        metadata={"help": "embedded, gemma-3-270m, a directory, a GGUF file, or a hub id"},
    )
    normalisation: Literal["sum", "mean"] = field(
        default="sum", metadata={"help": "of the scores inside the loss, and of the prior made"}
    )
    rank: int = field(default=4, metadata={"help": "rank of the adapter, >= 1"})
    alpha: float = field(default=8.0, metadata={"help": "scale of the adapter is alpha / rank"})
    targets: tuple[str, ...] = field(
        default=_ALL_LINEAR, metadata={"help": "linear layers that get an adapter"}
    )
    learning_rate: float = field(
        default=3e-3, metadata={"help": "peak, after warm-up; then linear to 0; > 0"}
    )
    warmup_steps: int = field(default=5, metadata={"help": "steps of linear warm-up, >= 0"})
    epochs: float = field(
        default=4.0, metadata={"help": "passes over the decisions, within the next two; > 0"}
    )
    min_steps: int = field(default=24, metadata={"help": "gradient steps at least, >= 1"})
    max_steps: int = field(
        default=140, metadata={"help": "gradient steps at most, also where min_steps is more; >= 1"}
    )
    batch_decisions: int = field(default=8, metadata={"help": "decisions per step, >= 1"})
    evaluate_every: int = field(default=12, metadata={"help": "steps between validations, >= 1"})
    patience: int = field(
        default=4, metadata={"help": "validations without a better one before stopping, >= 1"}
    )
    validation_decisions: int = field(
        default=64, metadata={"help": "held-out decisions per validation at most, >= 1"}
    )
    smoothing: float = field(
        default=0.05, metadata={"help": "smoothing under which the temperature is fitted, 0 to 1"}
    )
    dtype: Dtype = field(
        default="auto", metadata={"help": "precision of the frozen model; the adapter is float32"}
    )
    row_tokens: int = field(
        default=512, metadata={"help": "tokens per forward and backward pass, >= 1"}
    )
    text_tokens: int = field(
        default=TEXT_TOKENS, metadata={"help": "tokens of a state's text at most, as of the prior"}
    )
    seed: int = field(default=0, metadata={"help": "of shot choice, initialisation and batches"})

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            require(value >= 1, f"`{name}` is {value}, expected at least 1.")
        require(self.alpha > 0, f"`alpha` is {self.alpha}, expected a number above 0.")
        require(self.epochs > 0, f"`epochs` is {self.epochs}, expected a number above 0.")
        require(
            self.learning_rate > 0,
            f"`learning_rate` is {self.learning_rate}, expected a number above 0.",
        )
        require(
            self.warmup_steps >= 0, f"`warmup_steps` is {self.warmup_steps}, expected 0 or more."
        )
        require(bool(self.targets), "`targets` is empty, expected the names of linear layers.")
        require(
            0 <= self.smoothing <= 1,
            f"`smoothing` is {self.smoothing}, expected a number from 0 to 1.",
        )


_AT_LEAST_ONE = (
    "shots", "rank", "min_steps", "max_steps", "batch_decisions", "evaluate_every", "patience",
    "validation_decisions", "row_tokens", "text_tokens",
)  # fmt: skip
