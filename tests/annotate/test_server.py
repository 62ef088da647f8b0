import json
from http.client import HTTPConnection

import pytest

from cepcli.annotate.frames import Frames
from cepcli.annotate.records import read_annotations
from cepcli.annotate.server import AnnotationServer
from cepcli.errors import ConfigError


def ask(site, path, body=None, **headers):
    """Status, headers and JSON (or text) of an answer."""
    given = {"X-Cep-Token": site.server.token, "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection = HTTPConnection("127.0.0.1", site.server.server_port, timeout=10)
    data = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, data, given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    kind = answer.getheader("Content-Type")
    return answer.status, answer, json.loads(content) if "json" in kind else content


def people(site):
    return [a.text for a in read_annotations(site.path, "walker2d") if a.source == "person"]


def answer(site, shown_state, **changes):
    _, _, shown = ask(site, f"/api/state/{shown_state}")
    body = {"state": shown_state, "revision": shown["revision"], "text": "mine"} | {
        "primitive": "rise"
    }
    return ask(site, "/api/answer", body | changes)


def test_it_listens_on_the_loopback_only(site):
    assert site.server.server_address[0] == "127.0.0.1"


def test_an_answer_is_on_disk_when_the_page_hears_of_it(site):
    first, second, *_ = site.session.order
    status, _, said = answer(site, first)
    assert (status, said["next"]) == (200, second)
    assert people(site) == ["mine"]
    status, _, said = ask(site, "/api/undo", {})
    assert (status, said["state"], said["undone"]["text"]) == (200, first, "mine")
    assert people(site) == []
    assert ask(site, "/api/undo", {})[0] == 400


@pytest.mark.parametrize("path", ["/", "/api/overview", "/api/state/x", "/frame/x"])
@pytest.mark.parametrize("token", ["", "wrong", "wröng"])
def test_without_the_token_nothing_is_told(site, path, token):
    status, _, said = ask(site, path, X_Cep_Token=token.encode())
    assert status == 403
    assert "Open the one that the command printed last" in said["error"]


def test_without_the_token_nothing_is_taken(site):
    body = {"state": site.session.order[0], "revision": "", "text": "evil", "primitive": "rise"}
    assert ask(site, "/api/answer", body, X_Cep_Token="")[0] == 403
    assert people(site) == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1:1"])
def test_another_host_name_is_refused(site, host):
    for path in ("/", "/page.js", "/api/overview"):
        assert ask(site, path, Host=host)[0] == 403


def test_a_form_of_another_site_is_refused(site):
    body = {"state": site.session.order[0], "revision": "", "text": "evil", "primitive": "rise"}
    assert ask(site, "/api/answer", body, Content_Type="text/plain")[0] == 415
    assert people(site) == []


def test_the_page_may_load_nothing_from_elsewhere(site):
    _, response, _ = ask(site, "/")
    policy = response.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert response.getheader("Referrer-Policy") == "no-referrer"


def test_a_stale_answer_is_a_conflict(site):
    first = site.session.order[0]
    answer(site, first, text="from one tab")
    status, _, said = answer(site, first, revision="", text="from another")
    assert status == 409
    assert "yours is not saved" in said["error"]
    assert people(site) == ["from one tab"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"text": ""}, "empty"), ({"primitive": "ris"}, "none of"), ({"state": "x"}, "no state")],
)
def test_a_wrong_answer_is_said(site, changes, message):
    status, _, said = answer(site, site.session.order[0], **changes)
    assert status == 400
    assert message in said["error"]
    assert said["hint"]


def test_what_is_no_request_is_said(site):
    assert ask(site, "/nowhere")[0] == 404
    assert ask(site, "/api/nowhere", {})[0] == 404
    assert ask(site, "/api/answer", [1])[0] == 400
    assert ask(site, "/api/answer", "x" * 200_000)[0] == 413
    status, _, said = ask(site, f"/frame/{site.session.order[0]}")
    assert (status, said["error"]) == (
        404, "No picture: this state came without the simulator's own state.",
    )  # fmt: skip


def test_a_disk_that_is_full_is_said_and_the_answer_is_not_called_saved(site, monkeypatch):
    import errno
    import os

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left", "annotations.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, _, said = answer(site, site.session.order[0])
    assert status == 503
    assert "the disk is full" in said["error"]
    assert people(site) == []
    assert answer(site, site.session.order[0])[0] == 200


def test_a_port_that_is_taken_is_said(site):
    with pytest.raises(ConfigError, match=f"Cannot listen on port {site.server.server_port}"):
        AnnotationServer(site.session, Frames(wanted=False), "", site.server.server_port)
