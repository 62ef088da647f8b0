import pytest

from cepcli.errors import PriorError
from cepcli.prior.server.address import is_server, server_address


@pytest.mark.parametrize(
    ("name", "url", "model", "label"),
    [
        ("server:http://127.0.0.1:8000", "http://127.0.0.1:8000", None, "127.0.0.1:8000"),
        ("server:http://host/v1/", "http://host", None, "host"),
        ("server:https://host/a/v1#Qwen/Qwen3-8B", "https://host/a", "Qwen/Qwen3-8B", "Qwen3-8B"),
        ("server:http://[::1]:80#a%23b", "http://[::1]:80", "a#b", "a#b"),
    ],
)  # fmt: skip
def test_address_is_the_root_beside_which_the_paths_lie(name, url, model, label):
    found = server_address(name)
    assert (found.url, found.model, found.label) == (url, model, label)


@pytest.mark.parametrize(
    "name",
    ["server:", "server:host:8000", "server:ftp://host", "server:http://", "server:http://h:x",
     "server:http://a b", "server:http://h:99999", "server:http://[::1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(name):
    with pytest.raises(PriorError, match="is not a server address") as error:
        server_address(name)
    assert "server:http://127.0.0.1:8000#MODEL" in error.value.hint


@pytest.mark.parametrize("name", ["server:http://u:secret@h", "server:http://h?key=secret"])
def test_secrets_in_an_address_are_refused_and_not_repeated(name):
    with pytest.raises(PriorError, match="written into every run's configuration") as error:
        server_address(name)
    assert "secret" not in error.value.message + error.value.hint
    assert "CEP_SERVER_KEY" in error.value.hint


def test_only_the_scheme_means_a_server():
    assert is_server("server:x")
    assert not is_server("owner/server")
