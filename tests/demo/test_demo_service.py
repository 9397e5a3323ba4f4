"""The web page without a browser: its HTTP interface as the documentation has it, what it refuses, what it leaves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from demo_server import MODEL, ROOT, Server

from emozoo import cli, registry
from emozoo.commands import demo
from emozoo.inference import Predictor


def get(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urlopen(Request(address, headers=headers)) as reply:
            return reply.status, reply.read().decode(errors="replace")
    except HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def test_curl_lines_of_the_documentation(server: Server, clip: Path):
    """Protects programs that use the page: what docs/demo.md has them run prints what `emozoo predict --json` does."""
    text = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    lines = next(block for block in re.findall(r"```bash\n(.*?)```", text, re.S) if "curl" in block)
    assert "http://127.0.0.1:7860" in lines
    lines = lines.replace("http://127.0.0.1:7860", server.address).replace("clip.mp4", str(clip))
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True, timeout=60)
    expected = json.loads(Predictor(MODEL).predict(clip).to_json())
    assert json.loads(done.stdout) == {**expected, "file": clip.name}


def test_it_serves_its_own_files_alone(server: Server):
    """Protects the machine: no file outside, nothing fetched from elsewhere, no calls under a foreign name."""
    files = f"{server.address}/gradio_api/file="
    for path in ("/etc/passwd", str(ROOT / "README.md"), "https://example.org/", "http%3A//example.org/"):
        code, text = get(files + path)
        assert code == 403, path
        assert "root:" not in text
    assert get(server.address, Host="somebody.example")[0] == 403
    assert get(server.address)[0] == 200


@pytest.mark.parametrize("path", ["/etc/passwd", "https://example.org/clip.mp4"])
def test_the_interface_takes_what_was_uploaded_alone(server: Server, path: str):
    """Protects the machine: a request that names a file or an address in place of an upload is an error."""
    body = json.dumps({"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, MODEL]}).encode()
    call = f"{server.address}/gradio_api/call/predict"
    with urlopen(Request(call, body, {"Content-Type": "application/json"})) as reply:
        event = json.load(reply)["event_id"]
    assert get(f"{call}/{event}")[1].startswith("event: error")


def test_page_asks_for_nothing_elsewhere(server: Server):
    """Protects privacy: the page has no scripts, styles or fonts of other hosts, and forbids the browser to ask any."""
    with urlopen(server.address) as reply:
        page, policy = reply.read().decode(), reply.headers["content-security-policy"]
    assert re.findall(r"""(?:<script[^>]*src|<link[^>]*href|url\()\s*=?\s*["']?https?://(?!127\.0\.0\.1)""", page) == []
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert '"analytics_enabled":false' in page.replace(" ", "")
    for style in re.findall(r'href="([^"]+\.css[^"]*)"', page):
        assert not re.search(r"(?:url\(|@import)\W*http", get(f"{server.address}/{style.removeprefix('./')}")[1])


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Protects those who have not installed it: one line that says how."""
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["emozoo", "demo"])
    assert cli.main() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert 'pip install "emozoo[demo]"' in error


def test_wrong_model_is_said_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Protects from a page that opens and cannot predict."""
    if find_spec("gradio") is None:
        pytest.skip('the web page needs gradio: pip install "emozoo[demo]"')
    monkeypatch.setattr(sys, "argv", ["emozoo", "demo", "--model", "ceflnett"])
    assert cli.main() == 2
    assert "did you mean" in capsys.readouterr().err


def test_other_commands_load_no_gradio():
    """Protects `import emozoo` and `emozoo predict` from seconds of somebody else's import."""
    code = "import sys, emozoo, emozoo.cli, emozoo.inference, emozoo.bulk; assert 'gradio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_models_that_met_people_come_first():
    """Protects from a label of a network that saw drawings only: those come last and say so; no controls."""
    from emozoo.demo.service import model_choices

    choices = model_choices()
    drawn = [text.endswith("(drawn people only)") for text, _ in choices]
    assert drawn == sorted(drawn)
    marked = {name for (_, name), says in zip(choices, drawn, strict=True) if says}
    assert marked == {
        f"{arch}.synth_v1" for arch in ("caer_cross_attention", "ceflnet", "dfan", "recursive_joint_attention")
    }
    names = [name for _, name in choices]
    assert {registry.resolve(arch)[1].name for arch in ("ceflnet", "dfan")} <= set(names[:6])
    assert not any(name.endswith("_mean") for name in names)
    assert model_choices("runs/mine")[0] == ("mine", "runs/mine")


def test_names_are_text(clip: Path):
    """Protects the page from names: what a file or a class is called is never read as HTML."""
    from emozoo.demo import result
    from emozoo.demo.service import Results

    bad = "<img src=x onerror=alert(1)>\"'"
    found = Predictor(MODEL).predict(clip)
    scores = {bad: 0.9, "b": 0.1}
    track = replace(found.tracks[0], timeline=[replace(m, scores=scores) for m in found.timeline], scores=scores)
    shown = result.result(
        Results(replace(found, file=bad, model=bad, label=bad, classes=[*scores], scores=scores, tracks=[track]))
    )
    assert "&lt;img" in shown
    assert "<img src=x" not in shown
    assert "'x'" not in shown.replace("&#39;", "")
    assert "<img" not in result.message(bad)


def test_nothing_is_left_when_it_ends(server: Server, servers: list[Server], clip: Path):
    """Protects privacy: a service manager's signal ends it with exit code 0, and with all that was sent.

    Also amid predictions, and while others wait for theirs with the page open; it writes no traceback.
    """
    from visitors import Visitor

    with ExitStack() as stack, ThreadPoolExecutor(5) as pool:
        for _ in range(5):
            visitor = stack.enter_context(Visitor(server))
            path = Path(visitor.upload(clip).json()[0])
            assert visitor.join(str(path)).status_code == 200
            pool.submit(visitor.shown)
        assert path.is_file()
        assert server.folder in path.parents
        written = len(server.log.read_text())
        servers.remove(server)
        assert server.stop() == 0
    assert server.folder is None
    assert not path.exists()
    assert "Traceback" not in server.log.read_text()[written:]
