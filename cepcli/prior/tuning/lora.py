"""Low-rank adapters on a language model: attach, copy, store, and the checkpoint of a tuning."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cepcli.errors import PriorError
from cepcli.prior.config import FinetuneConfig
from cepcli.prior.local.language_model import LanguageModel
from cepcli.whole_files import whole_file
from cepcli.workspace.checkpoint_files import take_over
from cepcli.workspace.packaged_models import quiet_transformers

Weights = dict[str, Tensor]


class Checkpoint(NamedTuple):
    """All that a killed tuning needs to go on exactly: weights, best weights, moments, counters."""

    current: Weights
    best: Weights
    moments: Weights
    progress: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write it so that a reader sees the old one or the new one."""
        from safetensors.torch import save_file

        parts = {"current": self.current, "best": self.best, "moments": self.moments}
        tensors = {f"{part}/{n}": t for part, values in parts.items() for n, t in values.items()}
        with whole_file(path) as new:
            save_file(tensors, new, metadata={"progress": json.dumps(self.progress)})

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """What `write` wrote.

        Raises:
            ValueError, KeyError: if it is damaged.
        """
        from safetensors import SafetensorError, safe_open

        parts: dict[str, Weights] = {"current": {}, "best": {}, "moments": {}}
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - a file, not a dict
                    part, _, name = key.partition("/")
                    parts[part][name] = file.get_tensor(key)
                progress = json.loads(file.metadata()["progress"])
        except SafetensorError as error:
            raise ValueError(f"it cannot be read ({error})") from error
        return cls(**parts, progress=progress)


class Adapter:
    """A trainable LoRA adapter inside `language_model.model`; its weights are float32.

    Raises:
        PriorError: if the model lacks one of the layers that `config.targets` names.
    """

    def __init__(self, language_model: LanguageModel, config: FinetuneConfig) -> None:
        from peft import LoraConfig, get_peft_model

        transposed = _check_targets(language_model, config.targets)
        self._config = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType] - a float works
            target_modules=list(config.targets),
            lora_dropout=0.0,
            bias="none",
            fan_in_fan_out=transposed,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            torch.manual_seed(config.seed)
            self._peft: Any = get_peft_model(language_model.model, self._config)
        self._model_name = config.model
        self.parameters: dict[str, torch.nn.Parameter] = {
            name: parameter
            for name, parameter in self._peft.named_parameters()
            if parameter.requires_grad
        }

    def weights(self) -> Weights:
        """A copy of the adapter's weights, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.parameters.items()}

    def set_weights(self, weights: Weights) -> None:
        """Take over what `weights` returned."""
        with torch.no_grad():
            take_over(weights, self.parameters)

    def save(self, directory: Path) -> None:
        """Write the adapter as peft reads it, in bfloat16: half the size, below its noise."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        state = get_peft_model_state_dict(self._peft, save_embedding_layers=False)
        half = {n: t.detach().to(torch.bfloat16).cpu().contiguous() for n, t in state.items()}
        file = directory / "adapter_model.safetensors"
        save_file(half, file, metadata={"format": "pt"})
        file.chmod(0o644)  # safetensors lets only its owner read it; adapters are shared
        self._config.inference_mode = True
        self._config.base_model_name_or_path = self._model_name
        self._config.save_pretrained(str(directory))


def _check_targets(language_model: LanguageModel, targets: Sequence[str]) -> bool:
    """Whether the targets keep their weights transposed, as those of GPT-2 do.

    Of several targets peft would leave out silently those that there are not.
    """
    from transformers.pytorch_utils import Conv1D

    layers = {
        name: isinstance(module, Conv1D)
        for name, module in language_model.model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    }
    kinds = set()
    for target in targets:
        found = {kind for name, kind in layers.items() if f".{name}".endswith(f".{target}")}
        if not found:
            known = sorted({name.rpartition(".")[2] for name in layers} - {"lm_head"})
            raise PriorError(
                f"`targets` names `{target}`, but `{language_model.name}` has no such linear "
                f"layer, only {', '.join(known) or 'none'}.",
                f"Name layers that it has: --set 'targets={json.dumps(known)}'",
            )
        kinds |= found
    if len(kinds) > 1:
        raise PriorError(
            f"`targets` names layers of two kinds, of which `{language_model.name}` keeps one "
            "transposed.",
            "Name those of one kind, and tune the others apart.",
        )
    return kinds == {True}


def moments(optimizer: torch.optim.AdamW, adapter: Adapter) -> Weights:
    """The optimizer's running moments by parameter name; empty before the first step."""
    found = {}
    for name, parameter in adapter.parameters.items():
        for key in ("exp_avg", "exp_avg_sq"):
            if parameter in optimizer.state:
                found[f"{key}.{name}"] = optimizer.state[parameter][key].detach().cpu().clone()
    return found


def set_moments(optimizer: torch.optim.AdamW, adapter: Adapter, values: Weights, step: int) -> None:
    """Put the moments of `step` steps back."""
    for name, parameter in adapter.parameters.items():
        if f"exp_avg.{name}" in values:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": values[f"exp_avg.{name}"].to(parameter.device),
                "exp_avg_sq": values[f"exp_avg_sq.{name}"].to(parameter.device),
            }
