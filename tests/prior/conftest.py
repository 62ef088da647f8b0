"""The embedded model, loaded once for all tests that need the real one."""

import pytest


@pytest.fixture(scope="session")
def embedded_model():
    import torch

    from cepcli.prior.local.language_model import load_language_model

    torch.set_num_threads(1)
    return load_language_model("embedded", dtype="float32")
