"""What the tests of the web page share: a server with small weights, a browser, and a drawn clip."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from demo_server import Server
from media_files import write_video

from emozoo.synthemo import Knobs, plan, render


@pytest.fixture(scope="session")
def servers() -> Iterator[list[Server]]:
    """The server that all tests use, once it is started; a test that stops it takes it out."""
    running: list[Server] = []
    yield running
    for server in running:
        server.stop()


@pytest.fixture
def server(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    if find_spec("gradio") is None:
        pytest.skip('the web page needs gradio: pip install "emozoo[demo]"')
    if not servers:
        servers.append(Server(tmp_path_factory.mktemp("demo")))
    return servers[0]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium with a camera that shows a moving test image."""
    playwright = pytest.importorskip("playwright.sync_api", reason="driving a browser needs playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with playwright.sync_playwright() as tools:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        running = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox", *camera])
        yield running
        running.close()


@pytest.fixture
def open_page(server: Server, browser: Any) -> Iterator[Callable[..., Any]]:
    """``open_page(width=1280, height=900)``: a user of its own; when the test ends, nobody asked another server."""
    asked: list[str] = []
    refused: list[str] = []
    contexts = []

    def make(width: int = 1280, height: int = 900) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: refused.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(server.address)
        page.locator("#card h3").wait_for()
        return page

    yield make
    for context in contexts:
        context.close()
    own = (f"{server.address}/", f"blob:{server.address}/", "data:")
    assert asked
    assert [url for url in asked if not url.startswith(own)] == []
    assert refused == []


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a drawn person who speaks."""
    shown = render(plan(3, 0, Knobs(), size=(192, 144), seconds=2.0, fps=10))
    return write_video(tmp_path_factory.mktemp("clip") / "drawn.mp4", list(shown.frames), audio=shown.waveform)


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of that person: longer than a window, so with a timeline of several moments."""
    shown = render(plan(3, 0, Knobs(), size=(192, 144), seconds=2.0, fps=10))
    frames = list(shown.frames)
    return write_video(tmp_path_factory.mktemp("clip") / "drawn_long.mp4", (frames + frames[::-1]) * 2)
