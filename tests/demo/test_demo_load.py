"""Many people at the web page at once, broken files among theirs, and somebody who looks for what is not theirs."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest
import soak_table
from demo_server import MODEL, Server
from hostile_media import bomb
from media_files import write_video

from emozoo.demo import service
from emozoo.demo.service import LOCK, MAX_MB, MAX_PIXELS, MAX_WAITING, SAMPLES, Service
from emozoo.errors import EmozooError, UsageError
from emozoo.interrupt import until_interrupted

if find_spec("gradio") is None:  # it takes seconds to import
    pytest.skip('the web page needs gradio: pip install "emozoo[demo]"', allow_module_level=True)
import httpx
from visitors import TABS, Visitor, contents

# MiB that a prediction of a tiny clip may take beyond what the server takes at rest: decoded frames, a drawn video,
# and what allocators do not give back.
TINY_MIB = 300
# Beyond that for the largest image that is taken: three bytes a pixel, as decoded, as RGB, and turned.
LARGE_MIB = TINY_MIB + 9 * MAX_PIXELS / 2**20


@pytest.fixture(scope="session")
def good(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files that are predicted: two clips and an image with a face."""
    folder = tmp_path_factory.mktemp("good")
    odd = folder / "..mp4"  # a name without a stem
    odd.write_bytes(clip.read_bytes())
    image = folder / "face.png"
    with av.open(str(clip)) as video:
        next(video.decode(video=0)).to_image().save(image)
    return [clip, odd, image]


@pytest.fixture(scope="session")
def bad(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files that get a line: broken, empty, none of ours, too long, too large, too many pixels, a list of others."""
    folder = tmp_path_factory.mktemp("bad")
    data = clip.read_bytes()
    written = {
        "cut.mp4": data[: len(data) // 3], "noise.mkv": random.Random(1).randbytes(5000), "empty.mp4": b"",
        "text.mp4": b"this is no video", "script.py": b"print(1)",
        "list.m3u": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2.0,\n{clip}\n#EXT-X-ENDLIST\n".encode(),
        "parts.avi": f"ffconcat version 1.0\nfile '{clip}'\n".encode(),
    }  # fmt: skip
    for name, content in written.items():
        (folder / name).write_bytes(content)
    bomb(folder / "bomb.png", (16000, 12000), 8)
    with (folder / "large.mp4").open("wb") as file:
        file.truncate((MAX_MB + 2) * 2**20)
    write_video(folder / "long.mp4", [np.zeros((48, 64, 3), np.uint8)] * 200, fps=1)
    return sorted(folder.iterdir())


def memory(server: Server, name: str) -> float:
    """``VmRSS`` or ``VmHWM`` of the server in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.1)
    assert true()


def outcome(answer: Callable[[], str], path: Path, is_good: bool | None) -> str:
    """What went wrong with the answer for a file that is good, bad, or either (None); empty where nothing did."""
    try:
        text = answer()
    except httpx.TimeoutException:
        return f"hung: {path.name}"
    except httpx.HTTPError as error:
        return f"lost: {path.name}: {error!r}"
    own = f'class="ez-file">{path.name}<' in text and 'class="ez-label"' in text
    line = re.sub("<[^>]*>", "", text).strip()
    readable = line and "\n" not in line and "Traceback" not in line and "/" not in line  # no paths
    right = own if is_good else readable if is_good is False else own or readable
    return "" if right else f"lost: {path.name}: {text}"


def send_all(server: Server, cases: list[tuple[Path, bool | None]]) -> list[str]:
    """Four visitors at once send a fourth of the files each; returns the outcomes."""

    def visit(own: list[tuple[Path, bool | None]]) -> list[str]:
        with Visitor(server) as visitor:
            return [outcome(lambda path=path: visitor.predict(path), path, is_good) for path, is_good in own]

    with ThreadPoolExecutor(4) as pool:
        return list(chain.from_iterable(pool.map(visit, [cases[i::4] for i in range(4)])))


def test_all_are_answered_and_nothing_remains(server: Server, good: list[Path], bad: list[Path]):
    """Protects a busy page: each gets their own result or one line; memory is bounded; all is removed when they go."""
    before = contents(server.folder)
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak starts anew from here
    rest = memory(server, "VmRSS")
    cases = [(path, True) for path in good] + [(path, False) for path in bad]
    random.Random(2).shuffle(cases)
    assert list(filter(None, send_all(server, cases))) == []
    assert memory(server, "VmHWM") < rest + TINY_MIB
    wait_until(lambda: contents(server.folder) <= before)


def test_a_full_queue_is_said_in_a_line(server: Server, long_clip: Path, bad: list[Path]):
    """Protects from waiting for nothing: whoever does not fit into the queue is told so at once; it empties again."""
    text = next(path for path in bad if path.name == "text.mp4")
    with Visitor(server) as first, Visitor(server) as visitor:
        first.join(first.upload(long_clip).json()[0])
        path = visitor.upload(text).json()[0]
        replies = [visitor.join(path) for _ in range(MAX_WAITING + 1)]
        while replies[-1].status_code == 200 and len(replies) < 4 * MAX_WAITING:
            replies.append(visitor.join(path))
        assert sum(reply.status_code == 200 for reply in replies) >= MAX_WAITING
        assert replies[-1].status_code == 503
        assert "Queue is full" in replies[-1].json()["detail"]
        assert 'class="ez-label"' in first.shown()
        wait_until(lambda: visitor.web.get("queue/status").json()["queue_size"] == 0)


def test_nobody_reads_by_path(server: Server, clip: Path):
    """Protects the machine and other people: no folder is listed, no path leads out, and none can be guessed."""
    assert server.folder is not None
    secret = server.temporary / "secret.txt"
    secret.write_text("secret words")
    with Visitor(server) as visitor:
        first, second = (Path(visitor.upload(clip).json()[0]) for _ in range(2))
        assert first.parent != second.parent  # the name does not come from the content
        assert len(first.parent.name) >= 32
        folder, up = server.folder, "../" * 12
        paths = [
            f"file={path}" for path in (
                folder, f"{folder}/", f"{folder}/{SAMPLES}", first.parent, f"{folder}/../secret.txt", secret,
                f"{folder}/%2e%2e/secret.txt", f"{folder}/%252e%252e/secret.txt", f"{up}{secret}", "emozoo/cli.py",
                f"./{secret}", f"//{secret}", f"file://{secret}", f"{first}/../../../secret.txt", f"{first}%00.txt",
                "/proc/self/environ", "/proc/self/cwd/README.md", "~/.bashrc", "",
            )
        ]  # fmt: skip
        paths += [f"file/{secret}", f"stream/{secret}", f"custom_component/{up}{secret}/client/component/x.js"]
        roots = ("static", "assets", "svelte", "file", "file=")
        paths += [f"{server.address}/{root}/{step}{secret}" for root in roots for step in ("", up, "%2e%2e/" * 12)]
        for path in paths:
            reply = visitor.web.get(path)
            assert reply.status_code >= 400, path
            assert "secret words" not in reply.text
            assert "import" not in reply.text
        assert visitor.web.get(f"file={first}").content == clip.read_bytes()


def test_paths_are_those_of_sent_files(server: Server, clip: Path):
    """Protects what others sent: a request that names a folder, or a file from outside, reads and removes nothing."""
    assert server.folder is not None
    outside = server.temporary / "outside.mp4"
    outside.write_bytes(clip.read_bytes())
    with Visitor(server) as other:
        waits = Path(other.upload(clip).json()[0])
        for tab in range(TABS):
            for path in (
                server.folder,
                waits.parent,
                server.temporary,
                outside,
                waits.parent / ".." / ".." / outside.name,
            ):
                with Visitor(server) as visitor:
                    visitor.join(str(path), tab)
                    assert "ez-label" not in visitor.shown(), (tab, path)
        with Visitor(server) as visitor:
            assert "ez-label" in visitor.predict(clip)  # the other visitors are gone by now
        assert waits.is_file()
        assert outside.is_file()


def test_routes_that_the_page_does_not_need_are_closed(server: Server):
    """Protects from the rest of gradio's interface: what writes, fetches, lists or changes things there."""
    with Visitor(server) as visitor:
        for path in (
            "run/predict", "api/predict", "component_server", "process_recording", "vibe-edit", "undo-vibe-edit",
            "run-history/connect", "stream/x", "dev/reload",
        ):  # fmt: skip
            assert visitor.web.post(path, json={}).status_code in (403, 405), path
        for path in ("runs", "run-history/buckets", "dev/reload", "vibe-code", "profiling/summary", "token", "user"):
            assert visitor.web.get(path).status_code == 403, path


def test_pages_of_other_sites_get_no_answer(server: Server, clip: Path):
    """Protects from web pages elsewhere, on this machine too: they read nothing, send nothing, and show nothing."""
    with Visitor(server) as visitor:
        path = visitor.upload(clip).json()[0]
        for origin in (
            "https://somebody.example",
            "http://127.0.0.1:1",
            "http://localhost",
            "null",
            "file://",
            "http://[",
        ):
            from_there = {"Origin": origin}
            replies = [
                visitor.web.get(f"file={path}", headers=from_there),
                visitor.web.post("upload", files={"files": ("x.mp4", b"x")}, headers=from_there),
                visitor.web.post("call/predict", json={"data": [None, MODEL]}, headers=from_there),
            ]
            assert {reply.status_code for reply in replies} == {403}, origin
        asked = {"Origin": "https://somebody.example", "Access-Control-Request-Method": "POST"}
        assert "access-control-allow-origin" not in visitor.web.options("upload", headers=asked).headers
        in_front = {"Origin": "https://a.example", "X-Forwarded-Host": "a.example, b.example"}  # two web servers
        assert visitor.web.get(f"file={path}", headers=in_front).status_code == 200
        in_front["Origin"] = "https://b.example"
        assert visitor.web.get(f"file={path}", headers=in_front).status_code == 403
        own = visitor.web.get(f"file={path}", headers={"Origin": server.address})
        assert own.status_code == 200
        assert own.headers["cross-origin-resource-policy"] == "same-origin"  # no image or video of another page
        assert own.headers["x-content-type-options"] == "nosniff"
        assert visitor.web.get(server.address, headers={"Host": "127.0.0.1"}).status_code == 200  # as with --port 80
        for host in ("", "somebody.example", f"somebody.example:{server.port}", "127.0.0.1.somebody.example", "["):
            assert visitor.web.get(server.address, headers={"Host": host}).status_code in (400, 403), host


def test_uploads_that_are_not_files_leave_nothing(server: Server, clip: Path):
    """Protects memory and disk: fields, wrong names, uploads that break off, and large requests leave no trace."""
    before = contents(server.folder)
    rest = memory(server, "VmRSS")
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n' + bytes(5000)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    with Visitor(server) as visitor:
        replies = [
            visitor.upload(clip, field="other"),
            visitor.web.post("upload", data={"a": "x" * (50 << 20)}, files={"files": ("a.mp4", b"x")}),
            visitor.upload(clip, name="clip"),
            visitor.upload(clip, name="clip.html"),
            visitor.web.post("upload", content=form, headers=kind),
            visitor.web.post("upload", content=iter([form]), headers=kind),
            visitor.web.post("queue/join", content=b'{"data": "' + bytes(50 << 20)),
        ]
        assert [reply.status_code for reply in replies] == [400] * 5 + [411, 413]
        assert all("\n" not in reply.text for reply in replies)
        assert " .mp4 " in replies[2].text  # the endings that are taken
        with socket.create_connection(("127.0.0.1", server.port)) as line:  # it promises more than it sends
            head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind['Content-Type']}\r\n"
            line.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + form)
            wait_until(lambda: contents(server.folder) != before)
        wait_until(lambda: contents(server.folder) == before)
    assert memory(server, "VmHWM") < rest + 150  # the large field and request: 50 MiB each, in pieces


def test_the_same_file_of_two_people(server: Server, clip: Path):
    """Protects whoever waits: that somebody who sent the same file goes away takes nothing from them."""
    with Visitor(server) as waiting:
        path = waiting.upload(clip).json()[0]
        with Visitor(server) as leaving:
            assert "ez-label" in leaving.predict(clip)
        time.sleep(0.5)
        waiting.join(path)
        assert "ez-label" in waiting.shown()


def test_what_is_written_after_the_page_was_closed_is_removed(tmp_path: Path, clip: Path):
    """Protects privacy: who closes the page during a prediction leaves neither the file nor results."""
    running = Service(tmp_path)
    path = sent(tmp_path)
    path.write_bytes(clip.read_bytes())

    def close(fraction: float, what: str) -> None:
        if what == "drawing what the model attended to":
            running.close("mine")

    with suppress(OSError):  # the file is gone
        running.results("mine", path, MODEL, close)
    assert contents(tmp_path) == set()


def test_what_is_old_is_removed(tmp_path: Path):
    """Protects privacy over a weekend: what lies there for an hour goes, whole or not, predicted or not."""
    running = Service(tmp_path)
    for name in ("upload/a.mp4", "results/a.json", "tmp_part", f"{SAMPLES}/drawn.mp4", LOCK, "new/b.mp4", "new_part"):
        sent(tmp_path, name, 0 if "new" in name else service.KEEP_SECONDS + 60)
    running.sweep()
    stays = (f"{SAMPLES}/drawn.mp4", LOCK, "new/b.mp4", "new_part")
    assert contents(tmp_path) == {str(tmp_path / name) for name in stays}


def sent(folder: Path, name: str = "upload/mine.mp4", seconds_ago: float = 0.0) -> Path:
    """A file in the folder of a service, as if it was sent then."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    then = time.time() - seconds_ago
    for aged in {path, path.parent} - {folder}:
        os.utime(aged, (then, then))
    return path


def test_what_waits_in_a_long_queue_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Protects the last of many in the queue: while others are predicted, what was sent meanwhile stays; for hours."""
    running, start = Service(tmp_path), time.time()
    seen: list[bool] = []

    def two_hours_later(path: Path) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: start + 2 * service.KEEP_SECONDS)
            running.sweep()
            seen.append(waits.is_file() and path.is_file() and not forgotten.exists())
            patch.setattr(time, "time", lambda: start + service.QUEUE_SECONDS + service.KEEP_SECONDS + 60)
            running.sweep()
            seen.append(waits.exists())
        raise UsageError("enough")

    monkeypatch.setattr(service, "_is_too_large", two_hours_later)
    waits = sent(tmp_path, "next/b.mp4")
    forgotten = sent(tmp_path, "forgotten/c.mp4", service.KEEP_SECONDS + 60)
    with pytest.raises(UsageError, match="enough"):
        running.predict(sent(tmp_path, seconds_ago=service.KEEP_SECONDS - 60), MODEL, lambda fraction, what: None)
    assert seen == [True, False]


def test_a_folder_that_somebody_removed(tmp_path: Path):
    """Protects a server whose temporary folder a cleaner took: it goes on."""
    running = Service(tmp_path / "gone")
    running.sweep()


def test_examples_stay_whatever_way_leads_to_them(tmp_path: Path):
    """Protects the examples: who names one by a roundabout path removes it for nobody; nor do links to the folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    running = Service(tmp_path / "link")
    example = sent(running.folder, f"{SAMPLES}/drawn.mp4")
    for path in (example.parent / ".." / SAMPLES / example.name, tmp_path / "link" / SAMPLES / example.name):
        with pytest.raises(EmozooError):
            running.results("mine", path, "no such model", lambda fraction, what: None)
        running.close("mine")
        assert example.is_file()


def test_nothing_is_drawn_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Protects the promise that nothing is left: the end waits for an example that is drawn at that moment."""
    running, began, may_end = Service(tmp_path), threading.Event(), threading.Event()

    def draw(name: str, folder: Path) -> Path:
        began.set()
        may_end.wait(10)
        return folder / name

    monkeypatch.setattr(service, "sample", draw)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(running.sample, "Video")
        assert began.wait(10)
        ending = pool.submit(running.end)
        with pytest.raises(TimeoutError):
            ending.result(0.2)
        may_end.set()
        ending.result(10)


def test_a_second_signal_ends_a_server_that_waits():
    """Protects from a Ctrl-C that seems to do nothing while a model is downloaded: the second one ends it at once."""
    at_work = threading.Lock()
    at_work.acquire()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    with until_interrupted(signal.SIGINT, signal.SIGTERM) as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.wait(10)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            at_work.acquire(timeout=10)
    signal.signal(signal.SIGINT, before)


def test_a_gradio_that_reads_uploads_in_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Protects from a later gradio that goes around the checks of uploads: one line, and no page."""
    from gradio import route_utils

    from emozoo.demo import guard

    monkeypatch.setattr(route_utils, "GradioMultiPartParser", route_utils.GradioMultiPartParser)  # it is put back
    guard.install(tmp_path)

    async def other(*_: object) -> None:
        pass

    monkeypatch.setattr(route_utils, "upload_fn", other)
    with pytest.raises(UsageError, match="cannot use this version of gradio"):
        guard.install(tmp_path)


def test_windows_renames_no_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Protects Windows, where a file that is open cannot be renamed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.delattr(Path, "rename")
    with service.temporary_folder() as folder:
        assert (folder / LOCK).is_file()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot tell whether a server still runs")
def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Protects privacy after a power cut or kill -9; a server that runs beside it keeps its files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            with service.temporary_folder() as folder:
                (folder / "clip.mp4").write_bytes(b"somebody")
                os.write(writer, b"!")
                time.sleep(60)
        finally:
            os._exit(1)
    os.read(reader, 1)
    with service.temporary_folder() as beside:
        (left,) = set(tmp_path.iterdir()) - {beside}
        assert (left / "clip.mp4").is_file()  # its server still runs
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with service.temporary_folder() as after:
            assert set(tmp_path.iterdir()) == {beside, after}
    assert not list(tmp_path.iterdir())


@pytest.mark.soak(240)
def test_fifty_uploads(
    tmp_path: Path, good: list[Path], bad: list[Path], clip: Path, tally: Callable[[str, int], soak_table.Tally]
):
    """Protects a page that is left open to many: fifty files queued, four at once, twice; then it is killed."""
    seed = 5
    draw, count = random.Random(seed), tally("web page: uploads", seed)
    cases: list[tuple[Path, bool | None]] = [(path, True) for path in good * 4] + [(path, False) for path in bad]
    broad = tmp_path / "broad.png"
    bomb(broad, (8000, MAX_PIXELS // 8000), 8)
    cases += [(broad, None), (broad, None)]
    data = clip.read_bytes()
    while len(cases) < 50:
        degraded = bytearray(data[: draw.randrange(len(data) // 2, len(data))])
        for _ in range(draw.randrange(8)):
            degraded[draw.randrange(len(degraded))] ^= 1 << draw.randrange(8)
        path = tmp_path / f"degraded_{len(cases)}.mp4"
        path.write_bytes(degraded)
        cases.append((path, None))
    draw.shuffle(cases)
    temporary = tmp_path / "server"
    temporary.mkdir()
    server = Server(temporary)
    try:
        assert send_all(server, [(clip, True)]) == [""]
        rest = memory(server, "VmRSS")
        outcomes = send_all(server, cases)
        with ExitStack() as stack:  # now all before the first answer is read
            visitors = [stack.enter_context(Visitor(server)) for _ in cases]
            with ThreadPoolExecutor(4) as pool:
                lines = list(pool.map(lambda pair: pair[0].begin(pair[1][0]), zip(visitors, cases, strict=True)))
            for visitor, line, (path, is_good) in zip(visitors, lines, cases, strict=True):
                outcomes.append(outcome(lambda v=visitor, line=line: line or v.shown(), path, is_good))
        count.memory(memory(server, "VmHWM"))
        assert count.peak_mib < rest + LARGE_MIB
        wait_until(lambda: not contents(server.folder))
        assert memory(server, "VmRSS") < rest + TINY_MIB
        with Visitor(server) as visitor:
            visitor.begin(clip)
            server.process.kill()
            server.process.wait()
        left = server.folder
        assert contents(left)
        server = Server(temporary)
        assert server.folder != left
        assert len(list(temporary.glob("emozoo-demo-*"))) == 1
        outcomes += send_all(server, [(clip, True)])
    finally:
        server.stop()
    wrong = list(filter(None, outcomes))
    count.hung = sum(text.startswith("hung") for text in wrong)
    count.lost = len(wrong) - count.hung
    count.survived = len(outcomes) - len(wrong)
    assert wrong == []
