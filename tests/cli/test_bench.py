"""`cep bench envs`: what it prints and refuses."""

import pytest


def test_the_command_tells_rates_and_takes_options(cep):
    found = cep(
        "bench", "envs", "--env", "webshop", "--resets", 2, "--rounds", 1,
        "--set", "products=30", "--json",
    )  # fmt: skip
    assert found.code == 0
    (row,) = found.json
    assert row["options"] == {"products": 30}
    assert row["steps_per_s"] > 0
    shown = cep("bench", "envs", "--env", "babyai/goto-redball", "--resets", 1, "--rounds", 1)
    assert "steps/s" in shown.out
    assert "babyai/goto-redball" in shown.out


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--env", "walker2d"], "continuous control", "cep bench sac"),
        (["--env", "webshoop"], "webshoop", "Did you mean `webshop`"),
        (["--env", "webshop", "--set", "product=3"], "product", "products"),
    ],
)
def test_what_cannot_be_timed_is_said(cep, arguments, message, hint):
    found = cep("bench", "envs", *arguments)
    assert found.code == 2
    assert message in found.err
    assert hint in found.err
