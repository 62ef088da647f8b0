"""From the `--device` a user types to a torch device that is there, and how the CPU is used."""

import torch

from cepcli.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, cuda:N, or auto (cuda where there is one).

    Raises:
        ConfigError: if there is no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError(f"There is no device `{name}`.", "Use cpu, cuda, cuda:N or auto.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"The device `{name}` is not available: torch sees {torch.cuda.device_count()} CUDA "
            "devices.",
            "Use --device cpu, or see `cep doctor`.",
        )
    return torch.device(name)


def flush_subnormals() -> None:
    """Round numbers too small for full precision to zero, in this process, from now on.

    Such numbers turn up in optimisers and in saturated units, and cost a hundredfold.
    """
    torch.set_flush_denormal(True)
