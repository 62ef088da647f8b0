import pytest
import torch

from cepcli.device import resolve_device
from cepcli.errors import ConfigError


@pytest.fixture
def one_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("cpu", "cpu"), ("cuda", "cuda"), ("cuda:0", "cuda:0"), ("auto", "cuda")],
)
def test_devices_that_are_there(name, expected):
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize("name", ["cuda:7", "nonsense", "", "cuda:x", "gpu"])
def test_devices_that_are_not_there(name):
    with pytest.raises(ConfigError):
        resolve_device(name)


@pytest.mark.usefixtures("no_gpu")
def test_machine_without_a_gpu():
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="0 CUDA"):
        resolve_device("cuda")
