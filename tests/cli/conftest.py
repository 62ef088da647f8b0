import json
import sys
from typing import NamedTuple

import pytest


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The last line of stdout as JSON."""
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def cep(monkeypatch, capsys):
    """Run `cep ARGS…` in this process as the console script would."""
    from cepcli.cli import heartbeat
    from cepcli.cli.main import main

    monkeypatch.setattr(heartbeat, "FIRST_SECONDS", 1e9)  # a slow machine is no other output

    def call(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["cep", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        found = capsys.readouterr()
        return Done(code, found.out, found.err)

    return call
