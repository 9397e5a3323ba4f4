"""What tests of data share."""

from __future__ import annotations

import pytest

from emozoo.data import media


@pytest.fixture(params=["decord", "pyav"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both decoders in turn; without decord is what a platform without its wheels has."""
    if request.param == "decord":
        pytest.importorskip("decord")
    else:
        monkeypatch.setattr(media, "decord", None)
    return str(request.param)
