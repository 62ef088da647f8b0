"""What a cache promises is said in one line: while a run trains, at its end, and from its cache."""

import json

import pytest

from cepcli.cache import certificate
from cepcli.cache.disk import storage
from cepcli.cli import display
from cepcli.cli.summaries import certificate as in_words
from tests.cli.test_train import train

__all__ = ["train"]

PROOF = {
    "kappa": 0.5, "alpha": 0.1, "confidence": 0.95, "threshold": 0.94, "evidence": 30.0,
    "audits": 312, "failures": 7, "rate": 7 / 312, "low": 0.00905, "high": 0.0457,
}  # fmt: skip
ASKED = "δ 0.94, ≤10% over 0.5 nats (95%)"

#: One entry, so that every text is new; so large a budget that the proof comes at once.
PROVEN = (
    "--cache", "certified", "--set", "cache.capacity=1", "--set", "cache.most_capacity=1",
    "--set", "cache.certified.grid=[-1.0]", "--set", "cache.certified.kappa=1000",
    "--set", "cache.certified.alpha=0.9", "--set", "cache.control_interval=5",
    "--set", "cache.certified.least_refresh_rate=0.5",
)  # fmt: skip
SAID = "δ -1, ≤90% over 1000 nats (95%), "


@pytest.fixture(autouse=True)
def proof_after_few_observations(monkeypatch):
    monkeypatch.setattr(certificate, "FIRST_OBSERVATIONS", 5)


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (None, "none"),
        (PROOF | {"threshold": None, "rate": None}, "no proof yet"),
        (PROOF | {"audits": 0, "rate": None}, f"{ASKED}, no hit audited yet"),
        (PROOF, f"{ASKED}, seen 2.2% of 312"),
    ],
)
def test_a_certificate_is_one_line(certificate, said):
    assert in_words(certificate) == said


def test_the_interval_is_given_where_there_is_room():
    assert in_words(PROOF, interval=True).endswith("seen 2.2% of 312 [0.9%, 4.6%]")


def test_plain_progress_says_when_there_is_no_proof_and_when_there_is(train, monkeypatch):
    monkeypatch.setattr(display, "_PLAIN_SECONDS", 0.0)
    lines = [line for line in train(*PROVEN).err.splitlines() if line.startswith("step 1/")]
    assert lines[0].endswith("; certificate: no proof yet")
    done = train("--name", "again", *PROVEN)
    last = [line for line in done.err.splitlines() if line.startswith("step 60/60,")][-1]
    assert f"; certificate: {SAID}seen 0.0% of " in last
    assert "certificate" not in train("--cache", "lru").err


@pytest.mark.slow
def test_the_live_display_holds_the_certificate(train, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(display, "_REFRESH_SECONDS", 0.0)
    assert f"certificate: {SAID}seen 0.0% of " in train("--name", "r", *PROVEN).err
    assert "certificate" not in train("--cache", "lru").err


def test_the_closing_text_and_the_cache_say_what_the_summary_does(train, cep, workspace_root):
    done = train("--name", "r", *PROVEN)
    summary = json.loads((workspace_root / "run/r_s0/summary.json").read_text())
    promised = summary["certificate"]
    assert promised["threshold"] == -1.0
    assert f"  certificate: {in_words(promised, interval=True)}\n" in done.out
    assert cep("cache", "stats", "r_s0", "--json").json["certificate"] == promised
    by_path = cep("cache", "stats", workspace_root / "run/r_s0/cache")
    assert in_words(promised, interval=True) in by_path.out
    assert cep("eval", "r_s0", "--episodes", "2", "--json").json["certificate"] is None
    assert "certificate" not in train("--name", "lru", "--cache", "lru").out
    assert cep("cache", "stats", "lru_s0", "--json").json["certificate"] is None


def test_an_unfinished_run_shows_its_certificate(train, cep, monkeypatch):
    from cepcli.runs.online import OnlineRun

    real = OnlineRun._text_step

    def killed(run, progress, tau):
        if progress.step == 45:
            raise SystemExit(9)
        return real(run, progress, tau)

    monkeypatch.setattr(OnlineRun, "_text_step", killed)
    assert train("--name", "cut", *PROVEN).code == 9
    assert SAID in cep("cache", "stats", "cut_s0").out
    monkeypatch.setattr(OnlineRun, "_text_step", real)
    assert SAID in cep("runs", "resume", "cut_s0").out


def test_a_cache_saved_without_a_certificate_shows_none(train, cep, workspace_root):
    train("--name", "r", *PROVEN)
    place = workspace_root / "run/r_s0/cache"
    saved = storage.read(place)
    del saved.state["certificate"]
    storage.write(place, saved)
    assert cep("cache", "stats", place, "--json").json["certificate"] is None
    assert "none" in cep("cache", "stats", place).out
    assert cep("cache", "verify", place).code == 0
