"""What each token may attend to, for models some of whose layers see only the last so many tokens.

Such layers (of Gemma and Mistral, say) have a window: a token sees those less than `sliding_window`
positions before it. A mask that is given to transformers replaces the model's own, window included.
"""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cepcli.errors import PriorError

_FULL, _SLIDING = "full_attention", "sliding_attention"


def attention_mask(
    config: Any,
    allowed: Bool[Tensor, "nodes keys"],
    depths: Int[Tensor, " nodes"],
    key_depths: Int[Tensor, " keys"],
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    """The mask of a row for transformers: one for all layers, or one for each kind of them.

    Args:
        config: the model's.
        allowed: which keys are before a node in its own text.
        depths: position of each node in its text.
        key_depths: the same of each key.
        dtype: precision of the mask.
        device: where it goes.

    Raises:
        PriorError: if the model has a kind of layer of which a tree cannot be asked.
    """

    def mask(seen: Bool[Tensor, "nodes keys"]) -> Tensor:
        empty = torch.zeros(seen.shape, dtype=dtype)
        return empty.masked_fill_(~seen, torch.finfo(dtype).min)[None, None].to(device)

    kinds = _kinds(config)
    window = getattr(config, "sliding_window", None)
    near = allowed
    if _SLIDING in kinds and window:
        near = allowed & (depths[:, None] - key_depths[None] < window)
    if near is allowed or torch.equal(near, allowed):
        return mask(allowed)
    if kinds == {_SLIDING}:
        return mask(near)
    return {_FULL: mask(allowed), _SLIDING: mask(near)}


def whole_cache(config: Any) -> Any:
    """A cache that keeps all keys and values, of layers with a window, too: their mask tells."""
    from transformers import DynamicCache

    _kinds(config)
    return DynamicCache()


def _kinds(config: Any) -> set[str]:
    """Kinds of the model's layers; one of Mistral's, say, that all have a window, says no kind."""
    unstated = _SLIDING if getattr(config, "sliding_window", None) else _FULL
    kinds = set(getattr(config, "layer_types", None) or [unstated])
    others = kinds - {_FULL, _SLIDING}
    if others:
        raise PriorError(
            f"A model with layers of {', '.join(sorted(others))} cannot be asked about several "
            "actions at once.",
            "Serve it, by vLLM or llama.cpp, and name the server: --prior server:URL",
        )
    return kinds
