"""What tests of data share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["decord", "pyav"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both decoders in turn."""
    if request.param == "decord":
        pytest.importorskip("decord")
    monkeypatch.setenv("EMOZOO_DECODER", request.param)
    return str(request.param)
