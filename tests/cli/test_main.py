import pytest


@pytest.mark.parametrize("command", [("envs", "list"), ("runs", "list")])
def test_an_interrupt_anywhere_ends_with_a_sentence_and_130(cep, monkeypatch, command):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("cepcli.cli.envs.print_table", interrupted)
    monkeypatch.setattr("cepcli.cli.runs.print_table", interrupted)
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
