"""A page served from a folder of the test, without a simulator."""

import threading
from typing import NamedTuple

import pytest


class Site(NamedTuple):
    server: object
    session: object
    path: object  # of the annotation file

    @property
    def address(self):
        return self.server.address


@pytest.fixture
def site(tmp_path):
    """Five walker states with the rules' suggestions, on a server of their own."""
    from cepcli.annotate.frames import Frames
    from cepcli.annotate.server import AnnotationServer
    from tests.annotate import worlds

    session, path = worlds.session(tmp_path)
    with Frames(wanted=False) as frames:
        server = AnnotationServer(session, frames, "cep annotate walker2d")
        stop = threading.Event()
        thread = threading.Thread(target=server.serve_until, args=(stop.is_set,))
        thread.start()
        yield Site(server, session, path)
        stop.set()
        thread.join()
