"""Models whose layers see only the last tokens: a long text scores as the model alone reads it."""

import pytest
import torch

from cepcli.errors import PriorError
from cepcli.prior.base import Prompt
from cepcli.prior.local.hf import HFScorer, attention_mask, whole_cache
from cepcli.prior.local.language_model import LanguageModel
from cepcli.prior.local.whole_text import Borders, Ends

WINDOW = 8
SHAPE = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": WINDOW}  # fmt: skip


class Letters:
    """A tokenizer: one token a character."""

    pad_token_id = eos_token_id = 0

    def __call__(self, text, **options):
        texts = [text] if isinstance(text, str) else text
        ids = [[1 + ord(letter) % 63 for letter in one] for one in texts]
        return type("Encoding", (), {"input_ids": ids[0] if isinstance(text, str) else ids})()


def gemma():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    kinds = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, head_dim=8, layer_types=kinds))


def gemma_with_images():
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig

    kinds = ["sliding_attention", "full_attention"]
    text = Gemma3TextConfig(**SHAPE, head_dim=8, layer_types=kinds, max_position_embeddings=200)
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
              "num_attention_heads": 1, "image_size": 8, "patch_size": 4}  # fmt: skip
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=63
    )
    return Gemma3ForConditionalGeneration(config)


def mistral():
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**SHAPE))


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(**{k: v for k, v in SHAPE.items() if k != "sliding_window"})
    )


def loaded(model):
    device = torch.device("cpu")
    return LanguageModel(
        model, Letters(), "tiny", "r", "", "float32", device, Ends(0, 0), Borders("tiny")
    )


@pytest.mark.parametrize("make", [gemma, gemma_with_images, mistral, llama])
@pytest.mark.parametrize("prefix", ["", "abc", "a prefix that is longer than the window "])
@pytest.mark.parametrize("state", ["s", "a state that is longer than the window, too"])
def test_a_tree_scores_as_each_text_alone(make, prefix, state):
    torch.manual_seed(0)
    model = make().eval()
    for parameter in model.parameters():  # large, so that what is seen matters
        parameter.data.normal_(std=0.5)
    lm = loaded(model)
    actions = ["go", "go north east and then some"]
    scorer = HFScorer(lm, template="t", row_tokens=512)
    [found] = scorer.score([Prompt(prefix, state)], [actions])
    for action, score in zip(actions, found.log_likelihood, strict=True):
        before = lm.encode(prefix + state)
        after = lm.encode(f" {action}\n")
        with torch.inference_mode():
            logits = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(after) - 1)
        expected = sum(float(logits[p, t]) for p, t in zip(places, after, strict=True))
        assert score == pytest.approx(expected, abs=2e-3)


def test_a_prompt_longer_than_a_nested_context_is_refused():
    lm = loaded(gemma_with_images())
    lm.check_context(200)
    with pytest.raises(PriorError, match="takes 200"):
        lm.check_context(201)


def test_layers_that_carry_a_state_are_refused():
    class Config:
        layer_types = ("conv", "full_attention")

    with pytest.raises(PriorError, match="layers of conv"):
        whole_cache(Config())
    one = torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(PriorError, match="layers of conv"):
        attention_mask(Config(), one, torch.zeros(1).long(), torch.zeros(1).long(),
                       torch.float32, torch.device("cpu"))  # fmt: skip
