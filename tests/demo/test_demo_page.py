"""The web page in a real browser: what somebody who opens `emozoo demo` sees and takes away."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from demo_server import MODEL, Server
from media_files import write_video
from PIL import Image

from emozoo.demo.service import MAX_MB
from emozoo.inference import Predictor


def send(page: Any, path: Path) -> None:
    """Uploads a file on the page's first tab."""
    page.locator("#file input[type=file]").set_input_files(path)
    page.locator(f'#file [aria-label="{path.name}"]').wait_for()


def predict(page: Any, path: Path) -> None:
    """Uploads a file and waits for its result."""
    send(page, path)
    page.get_by_role("button", name="Predict").locator("visible=true").click()
    page.locator(".ez-file", has_text=path.name).wait_for()


def link(page: Any, server: Server, name: str) -> str:
    return f"{server.address}/{page.locator('.ez-links a', has_text=name).get_attribute('href')}"


def status(address: str) -> int:
    try:
        with urlopen(address) as reply:
            return int(reply.status)
    except HTTPError as error:
        return error.code


def test_upload_gives_the_numbers_of_predict(open_page: Any, server: Server, long_clip: Path):
    """Protects the one path: label, scores, timeline and every number of the page are those of `emozoo predict`."""
    page = open_page()
    predict(page, long_clip)
    expected = Predictor(MODEL).predict(long_clip)
    best = max(expected.scores, key=expected.scores.get)
    assert page.locator(".ez-label").inner_text().split() == [best, f"{expected.scores[best]:.2f}"]
    with urlopen(link(page, server, "JSON")) as reply:
        written = json.load(reply)
    assert written == {**json.loads(expected.to_json()), "file": long_clip.name}
    with urlopen(link(page, server, "CSV")) as reply:
        rows = reply.read().decode().splitlines()
    assert len(rows) == 1 + sum(len(t.timeline) for t in expected.tracks)
    moments = json.loads(page.locator(".ez-timeline").get_attribute("data-moments"))
    assert [m[:2] for m in moments] == [[round(m.start_s, 3), round(m.end_s, 3)] for m in expected.timeline]
    attention = page.locator(".ez-why img")
    attention.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.ez-why img').naturalWidth > 500")
    assert "Six people of one country" in page.locator("#card").inner_text()  # the limits of these weights


def test_timeline_leads_to_a_moment_of_the_video(open_page: Any, server: Server, long_clip: Path):
    """Protects the timeline: a click and the arrow keys move the annotated video, and the text follows."""
    page = open_page()
    predict(page, long_clip)
    line, now = page.locator(".ez-timeline"), "document.querySelector('video.ez-media')"
    page.wait_for_function(f"{now}.readyState >= 1")
    assert abs(page.evaluate(f"{now}.duration") - 8) < 0.3
    box = line.bounding_box()
    line.click(position={"x": 0.75 * box["width"], "y": 10})
    page.wait_for_function(f"Math.abs({now}.currentTime - 6) < 0.2")
    assert page.locator(".ez-now").inner_text().startswith(("5.0 to 6.0 s", "6.0 to 7.0 s"))
    line.press("Home")
    line.press("ArrowRight")
    line.press("ArrowRight")
    page.wait_for_function(f"Math.abs({now}.currentTime - 2) < 0.1")
    assert line.get_attribute("aria-valuetext").startswith("2.0 to 3.0 s")
    with urlopen(link(page, server, "Video")) as reply:
        assert reply.read(12)[4:8] == b"ftyp"


def test_broken_file_is_one_sentence(open_page: Any, server: Server, tmp_path: Path):
    """Protects against stack traces: what is no media file, no file at all, and a later good one."""
    page, written = open_page(), len(server.log.read_text())
    page.get_by_role("button", name="Predict").locator("visible=true").click()
    page.locator(".ez-error", has_text="There is no file yet").wait_for()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video")
    send(page, broken)
    page.get_by_role("button", name="Predict").locator("visible=true").click()
    error = page.locator(".ez-error", has_text="media file")
    error.wait_for()
    text = error.inner_text()
    assert text.endswith(".")
    assert "\n" not in text
    assert "/" not in text  # no path of the server
    assert "Traceback" not in server.log.read_text()[written:]


def test_no_face_is_said_in_plain_words(open_page: Any, tmp_path: Path):
    """Protects: a file without a face gets no label, and a sentence that says why."""
    path = tmp_path / "grey.png"
    Image.new("RGB", (160, 120), (120, 120, 120)).save(path)
    page = open_page()
    predict(page, path)
    assert page.locator(".ez-label").inner_text() == "no prediction"
    assert "No face was found" in page.locator(".ez-warnings").inner_text()


def test_limits_have_clear_words(open_page: Any, tmp_path: Path):
    """Protects the server from files that are too long or too large, and people from not knowing why."""
    page = open_page()
    long = write_video(tmp_path / "long.mp4", [np.zeros((48, 64, 3), np.uint8)] * 240, fps=1)
    send(page, long)
    page.get_by_role("button", name="Predict").locator("visible=true").click()
    page.locator(".ez-error", has_text="4.0 minutes long, and this page takes up to 3").wait_for()
    page.reload()
    page.locator("#card h3").wait_for()
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate((MAX_MB + 20) * 2**20)
    page.locator("#file input[type=file]").set_input_files(large)
    page.get_by_text("exceed the maximum allowed size of 200").first.wait_for()


def test_two_users_at_once(open_page: Any, server: Server, clip: Path, tmp_path: Path):
    """Protects each user's results: both are served in turn, see their own alone, and take them along when they go."""
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    pages = {path: open_page() for path in (other, clip)}
    for path, page in pages.items():
        send(page, path)
    for page in pages.values():
        page.get_by_role("button", name="Predict").locator("visible=true").click()
    for path, page in pages.items():
        page.locator(".ez-file").wait_for()
        assert page.locator(".ez-file").inner_text() == path.name
    first, second = (link(page, server, "JSON") for page in pages.values())
    assert first.split("/")[-2] != second.split("/")[-2]
    assert len(first.split("/")[-2]) >= 20  # too long to guess
    assert (status(first), status(second)) == (200, 200)
    assert status(first.rsplit("/", 1)[0]) == 403  # a folder is not listed
    assert server.folder is not None
    sent = list(server.folder.rglob(other.name))
    assert sent
    pages[other].context.close()
    until = time.monotonic() + 20
    while (status(first) == 200 or any(path.exists() for path in sent)) and time.monotonic() < until:
        time.sleep(0.2)
    assert (status(first), status(second)) == (403, 200)
    assert not any(path.exists() for path in sent)  # the file that was sent is removed, too


def test_phone(open_page: Any, clip: Path):
    """Protects a phone: nothing is wider than the screen, and results are below the button, in reach of a thumb."""
    page = open_page(390, 844)
    predict(page, clip)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".ez-result").bounding_box()["width"] > 300
    for text in ("JSON", "CSV", "Explanation", "Video"):
        box = page.locator(".ez-links a", has_text=text).bounding_box()
        assert box["height"] >= 32
        assert box["x"] + box["width"] <= 390


@pytest.mark.slow(20)
def test_examples_are_drawn_and_bring_their_model(open_page: Any):
    """Protects the first sight: the example of a voice can be predicted, with a model that hears, and be played."""
    page = open_page()
    page.locator(".ez-examples").get_by_role("button", name="Voice").click()
    page.locator('#file [aria-label="drawn_voice.wav"]').wait_for()
    page.locator("#card h3", has_text="recursive_joint_attention").wait_for()
    page.get_by_role("button", name="Predict").locator("visible=true").click()
    page.locator(".ez-va").wait_for()
    page.wait_for_function("document.querySelector('audio.ez-media').duration > 15")


def test_camera(open_page: Any):
    """Protects recording: what Chromium records of a camera is a video that can be predicted."""
    page = open_page()
    page.get_by_role("tab", name="Film").click()
    page.get_by_text("Click to Access Webcam").locator("visible=true").click()
    record = page.get_by_role("button", name="start recording")
    record.click()
    record.filter(has_text="Stop").wait_for()
    page.wait_for_timeout(1500)
    record.click()
    page.get_by_label("Clear").locator("visible=true").wait_for()  # it is sent
    page.get_by_role("button", name="Predict").locator("visible=true").click()
    page.locator(".ez-result").wait_for()
    assert "No face was found" in page.locator(".ez-warnings").inner_text()
