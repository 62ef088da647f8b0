"""GGUF files as models: what is converted is the model in the file, or nothing is."""

import errno
import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file

from cepcli.errors import ArtifactError, PriorError
from cepcli.prior.load import find_prior
from cepcli.prior.local import gguf
from cepcli.prior.local.gguf import gguf_directory, gguf_model, is_gguf
from cepcli.prior.local.gguf_header import read_header
from cepcli.prior.local.hf import HFScorer
from cepcli.prior.local.language_model import load_language_model
from cepcli.prior.local.weight_hashes import known_hashes
from cepcli.workspace.artifacts import Workspace, sha256
from tests.prior.local.test_hf import ACTIONS, PROMPTS
from tests.prior.served import gguf_weights
from tests.prior.tiny_gguf import PIECES, byte_level, sentencepiece, write


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("CEP_CACHE", str(tmp_path / "cache"))


def load(file):
    return load_language_model(str(file), dtype="float32")


def refused(file, match, load=load):
    content = file.read_bytes()
    with pytest.raises(PriorError, match=match) as error:
        load(file)
    assert str(file) in error.value.message
    assert file.read_bytes() == content
    assert not list(file.parent.glob("cache/gguf/*.safetensors"))
    return error.value


def test_the_header_tells_settings_tensors_and_sizes(tmp_path):
    header = read_header(write(tmp_path / "a.gguf", quantise="Q8_0", add_bos=True))
    assert header.settings["general.architecture"] == "llama"
    assert header.settings["llama.embedding_length"] == 32
    assert header.settings["tokenizer.ggml.add_bos_token"] is True
    assert header.settings["tokenizer.ggml.tokens"] == 259 + len(PIECES)
    assert header.tensors["output_norm.weight"] == 4 * 32
    assert header.tensors["blk.0.attn_q.weight"] == 32 * 34  # a scale of 2 bytes for 32 values


def test_a_file_is_a_model_converted_once(tmp_path, monkeypatch):
    file = write(tmp_path / "a.gguf")
    loaded = load(file)
    assert loaded.revision == sha256(file)
    assert loaded.name == str(file)
    scores = loaded.model(torch.tensor([[1, 260, 261]])).logits
    assert scores.isfinite().all()
    monkeypatch.setattr(gguf, "convert", None)
    again = load(file)
    torch.testing.assert_close(again.model(torch.tensor([[1, 260, 261]])).logits, scores)
    assert find_prior(str(file), Workspace(tmp_path)).model == str(file)


def test_equal_files_share_one_conversion_and_another_file_has_another_revision(tmp_path):
    file, copy = write(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    shutil.copy2(file, copy)
    assert gguf_directory(file) == gguf_directory(copy)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert gguf_directory(copy)[1] == sha256(copy) != gguf_directory(file)[1]


def test_a_hash_is_remembered_only_while_the_file_does_not_change(tmp_path):
    """A copy may keep name, size and time of modification: models of one kind have one size."""
    file, other = tmp_path / "a", tmp_path / "other"
    file.write_bytes(b"one")
    assert known_hashes([file]) == known_hashes([file]) == [sha256(file)]
    other.write_bytes(b"two")
    shutil.copystat(file, other)
    other.replace(file)
    assert known_hashes([file]) == [sha256(file)]


@pytest.mark.parametrize(
    ("kind", "dtype"), [("Q4_1", torch.bfloat16), ("Q8_0", torch.float32), (None, torch.float32)]
)
def test_only_coarse_weights_are_kept_in_bfloat16(tmp_path, kind, dtype):
    file = write(tmp_path / "a.gguf", quantise=kind)
    load(file)
    stored = load_file(gguf_directory(file)[0] / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {dtype}


@pytest.mark.parametrize("add_bos", [None, True, False])
def test_a_sentencepiece_text_begins_with_bos_unless_the_file_says_otherwise(tmp_path, add_bos):
    loaded = load(write(tmp_path / "a.gguf", sentencepiece, add_bos=add_bos))
    ids = loaded.tokenizer(" go north").input_ids
    assert (ids[0] == 1) == (add_bos is not False)
    assert ids.count(1) == (add_bos is not False)
    assert loaded.tokenizer.eos_token_id == 2


@pytest.mark.parametrize("space", [None, True, False])
def test_a_sentencepiece_text_begins_with_a_space_unless_the_file_says_otherwise(tmp_path, space):
    loaded = load(write(tmp_path / "a.gguf", sentencepiece, space=space))
    first = loaded.tokenizer.tokenize("left")[0]
    assert first == ("l" if space is False else "▁")


@pytest.mark.parametrize(
    ("split", "add_bos", "begins"),
    [("default", None, False), ("default", True, True), ("llama-bpe", None, True),
     ("llama-bpe", False, False)],
)  # fmt: skip
def test_a_byte_level_text_begins_with_bos_if_the_file_or_llama_cpp_says_so(
    tmp_path, split, add_bos, begins
):
    loaded = load(write(tmp_path / "a.gguf", byte_level, split=split, add_bos=add_bos))
    ids = loaded.tokenizer(" go").input_ids
    assert ids == ([0] if begins else []) + [258]


def test_what_is_no_gguf_file_is_refused(tmp_path):
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"PK\3\4 a zip archive")
    refused(file, "not a GGUF file")
    file.write_bytes(b"")
    refused(file, "not a GGUF file")
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    refused(file, "version 1, expected 2 or 3")
    with pytest.raises(PriorError, match="no file"):
        load(tmp_path / "absent.gguf")
    with pytest.raises(PriorError, match="no file"):
        find_prior("absent.gguf", Workspace(tmp_path))


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.6, 0.999])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, share):
    whole = write(tmp_path / "a.gguf")
    file = tmp_path / "cut.gguf"
    file.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    error = refused(file, "truncated or damaged|not a GGUF file")
    assert "again" in error.hint or "llama.cpp" in error.hint


def test_an_architecture_that_transformers_cannot_read_is_refused(tmp_path):
    error = refused(
        write(tmp_path / "a.gguf", architecture="rwkv7"), "cannot read .* architecture `rwkv7`"
    )
    assert "--prior server:URL" in error.hint


def test_an_os_error_of_transformers_and_one_of_the_system_are_told_apart(tmp_path, monkeypatch):
    def fails(file):
        raise error

    monkeypatch.setattr(gguf, "_read", fails)
    file = write(tmp_path / "a.gguf")
    error = OSError("no such repository")
    refused(file, "cannot read .*: no such repository")
    error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ArtifactError, match="the disk is full"):
        gguf_model(file)


def test_a_file_without_a_tokenizer_is_refused(tmp_path):
    refused(write(tmp_path / "a.gguf", None), r"no tokenizer: it lacks `tokenizer\.ggml\.model`")


def test_a_weight_that_is_missing_is_not_made_up(tmp_path):
    refused(
        write(tmp_path / "a.gguf", left_out=("blk.0.ffn_up",)), r"no fitting weights for .*up_p"
    )


def test_a_tensor_that_transformers_leaves_out_is_refused(tmp_path):
    """As the factors of Llama 3's rotary positions, without which it is another model."""
    refused(
        write(tmp_path / "a.gguf", extra=("rope_freqs",)),
        r"only 12 of the 13 tensors .*not `rope_freqs\.weight`",
    )


def test_one_part_of_several_is_refused(tmp_path):
    error = refused(write(tmp_path / "a.gguf", settings={"split.count": 3}), "one of the 3 parts")
    assert "llama-gguf-split --merge" in error.hint


def test_names_of_files_are_told_from_those_of_hubs(tmp_path):
    file = write(tmp_path / "model")
    assert is_gguf(str(file))
    assert is_gguf("weights.GGUF")
    assert not is_gguf("owner/model")
    assert not is_gguf("embedded")


@pytest.mark.filterwarnings("ignore")  # peft's own
def test_an_adapter_tuned_on_a_file_knows_it_by_its_contents(tmp_path):
    from cepcli.prior.config import FinetuneConfig
    from cepcli.prior.tuning.lora import Adapter

    file, folder = write(tmp_path / "a.gguf"), tmp_path / "adapter"
    folder.mkdir()
    config = FinetuneConfig(rank=1, targets=("up_proj",), model=str(file))
    Adapter(load(file), config).save(folder)
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert base == str(file)
    merged = load_language_model(str(file), dtype="float32", adapter=folder)
    assert merged.revision == sha256(file)


@pytest.mark.slow
def test_the_embedded_model_s_own_file_scores_as_the_embedded_model_does(monkeypatch):
    monkeypatch.delenv("CEP_CACHE")
    scores = [
        HFScorer(load(name), template="t", row_tokens=512).score(PROMPTS[:2], [ACTIONS] * 2)
        for name in ("embedded", gguf_weights())
    ]
    for ours, files in zip(*scores, strict=True):
        assert ours.log_likelihood.tolist() == files.log_likelihood.tolist()
        assert ours.lengths.tolist() == files.lengths.tolist()
