import pytest

from cepcli.errors import EnvError


@pytest.mark.parametrize("command", [("envs", "list"), ("runs", "list")])
def test_an_interrupt_anywhere_ends_with_a_sentence_and_130(
    cep, monkeypatch, workspace_root, command
):
    workspace_root.mkdir(exist_ok=True)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("cepcli.cli.envs.print_rows", interrupted)
    monkeypatch.setattr("cepcli.cli.runs.print_rows", interrupted)
    done = cep(*command)
    assert done.code == 130
    assert done.err.startswith("cep: interrupted.")
    assert "Traceback" not in done.err


def test_doctor_names_a_workspace_that_cannot_be_written(cep, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    done = cep("doctor", "--json")
    assert done.code == 2
    [found] = [c for c in done.json["checks"] if c["what"] == "workspace"]
    assert not found["ok"]
    assert "not writable" in found["found"]


@pytest.mark.parametrize(
    ("variable", "there"), [("ALFWORLD_DATA", "json_2.1.1"), ("WEBSHOP_DATA", "")]
)
def test_doctor_shows_where_published_data_lies(cep, monkeypatch, tmp_path, variable, there):
    def check():
        [found] = [c for c in cep("doctor", "--json").json["checks"] if c["what"] == variable]
        return found["state"], found["found"]

    monkeypatch.delenv(variable, raising=False)
    assert check()[0] == "ok"
    assert "not set" in check()[1]
    monkeypatch.setenv(variable, str(tmp_path / "data"))
    assert check() == ("broken", f"{tmp_path / 'data' / there}, not there")
    (tmp_path / "data" / there).mkdir(parents=True)
    assert check() == ("ok", str(tmp_path / "data" / there))


def test_debug_shows_the_traceback_before_the_sentence(cep, monkeypatch):
    def fails(*given, **named):
        raise EnvError("It failed.") from ZeroDivisionError("by zero")

    monkeypatch.setattr("cepcli.envs.catalog.env_ids", fails)
    quiet, loud = cep("envs", "list"), cep("--debug", "envs", "list")
    assert (quiet.code, quiet.err) == (2, "cep: It failed.\n")
    assert loud.code == 2
    assert "ZeroDivisionError: by zero" in loud.err
    assert loud.err.endswith("cep: It failed.\n")
