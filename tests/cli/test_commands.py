"""The other commands, and how the command line fails."""

from __future__ import annotations

import json
import os
import sys

import pytest

from emozoo import cli

COMMANDS = (
    "list", "info", "predict", "train", "finetune", "benchmark", "leaderboard", "check", "synth", "download", "push",
)  # fmt: skip


def test_list(emozoo):
    """Protects the overview: every architecture with wirings, sizes, streams and weights, for people and programs."""
    models = json.loads(emozoo("list", "--json").out)["models"]
    text = emozoo("list").out
    assert {"caer_cross_attention", "dfan", "recursive_joint_attention", "ceflnet", "caer_net_s"} <= {
        m["name"] for m in models
    }
    for m in models:
        assert m["name"] in text
        assert m["default_wiring"] in m["wirings"]
        assert m["streams"]
        assert all({"name", "licence", "sha256"} <= set(w) for w in m["weights"])


def test_list_shows_models_to_use_and_what_they_answer(emozoo):
    """Protects from controls taken for models, and from a paper's task where the weights answer more."""
    models = {m["name"]: m for m in json.loads(emozoo("list", "--json").out)["models"]}
    text = emozoo("list").out
    controls = [w for m in models.values() for w in m["weights"] if w["control_of"]]
    assert {w["control_of"] for w in controls} <= {w["name"] for m in models.values() for w in m["weights"]}
    assert len(controls) >= 4
    assert not [w["name"] for w in controls if w["name"] in text]
    joint = models["recursive_joint_attention"]
    assert joint["tasks"] == ["emotion", "va"]
    assert all(w["tasks"] == ["emotion", "va"] for w in joint["weights"] if w["classes"])
    assert models["ceflnet"]["tasks"] == ["emotion"]
    assert "→ emotion, va" in text
    with_controls = emozoo("list", "--controls").out
    assert all(f"{w['name']} (" in with_controls for w in controls)


def test_benchmark_help_is_in_groups(emozoo):
    """Protects people from a wall of options: those of data, scoring, comparison and output stand apart."""
    text = emozoo("benchmark", "--help").out
    places = [text.index(group) for group in ("Models and data", "Scoring", "Comparison", "Output")]
    assert places == sorted(places)


def test_info_counts_as_the_paper_does(emozoo):
    """Protects `info` of a network without weights: size, wiring, and the paper's count without frozen backbones."""
    facts = json.loads(emozoo("info", "ceflnet", "--wiring", "official", "--size", "full", "--json").out)
    assert (facts["name"], facts["wiring"], facts["size"]) == ("ceflnet", "official", "full")
    assert facts["parameters"] == 12_919_624
    assert facts["sha256"] is None
    assert facts["spec"]["clips"] > 1


@pytest.mark.parametrize("command", COMMANDS[:3] + COMMANDS[4:])
def test_help_has_an_example(emozoo, command):
    """Protects newcomers: every command shows how it is used."""
    done = emozoo(command, "--help")
    assert done.code == 0
    assert f"Example: emozoo {command}" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["predict", "x.mp4", "--model", "ceflnt"], 2, "did you mean 'ceflnet'"),
        (["predict", "x.mp4", "--model", "nowhere/model"], 2, "no such weights folder"),
        (["predict"], 2, "--help"),
        (["predict", "x.mp4", "--bogus"], 2, "--bogus"),
        (["predict", "x.mp4", "--csv"], 2, "--out"),
        (["info", "ceflnet", "--wiring", "paper"], 2, "official"),
        (["benchmark", "--dataset", "folder"], 2, "--root"),
        (["benchmark", "--dataset", "folder", "--root", "nowhere", "--model", "ceflnet"], 3, "nowhere"),
        (["check", "nowhere.csv"], 3, "nowhere.csv"),
        (["bogus"], 2, "bogus"),
    ],
)
def test_errors_are_one_line(emozoo, arguments, code, says, tmp_path):
    """Protects users from tracebacks: wrong requests get one line that says what to do, and the exit code for it."""
    done = emozoo(*arguments, cwd=tmp_path)
    assert done.code == code, done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert done.err.startswith("error: ")
    assert says in done.err
    assert not done.out


def test_debug_shows_where_and_keeps_the_exit_code(emozoo):
    """Protects scripts that run with --debug: the traceback comes before the line, and the exit code stays."""
    done = emozoo("info", "nothing", "--debug")
    assert done.code == 2
    assert done.err.startswith("Traceback")
    assert done.err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("command", "buffering", "code"), [("predict", 1, 3), ("list", 1, 0), ("list", -1, 0), ("", 1, 0)],
    ids=["at work", "a list", "all done", "help"],
)  # fmt: skip
def test_nobody_reads_the_output(command: str, buffering: int, code: int, folder_of, monkeypatch, capsys):
    """Protects `emozoo ... | head`: no traceback; that a command was ended before it was done is said."""
    more = ["nowhere.png", "--json", "--model", str(folder_of("dfan"))] if command == "predict" else []
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "argv", ["emozoo", *filter(None, [command]), *more])
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # Typer wraps both
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", buffering))
    assert cli.main() == code
    said = "error: the reader of the output has gone, and the command ended before it was done\n"
    assert capsys.readouterr().err.endswith(said) if code else not capsys.readouterr().err


def test_closed_output_is_said(monkeypatch, capsys):
    """Protects `emozoo list >&-`, as some services start it: one line, no traceback, nothing printed into a file."""
    monkeypatch.setattr(sys, "argv", ["emozoo", "list"])
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main() == 3
    assert capsys.readouterr().err == "error: stdout is closed: let it lead somewhere, as > /dev/null does\n"


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """Protects results from what libraries print: with stdout and stderr closed no file gets their numbers."""
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.closerange(0, 3)
            cli._hold_closed_streams()
            os.write(write, b"%d" % os.open(tmp_path / "result", os.O_CREAT | os.O_WRONLY))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 9)) > 2
    os.close(read)
    os.close(write)


def test_notes_stay_out_of_the_output(monkeypatch, capsys):
    """Protects JSON on stdout from notes and errors where stderr is closed."""
    monkeypatch.setattr(sys, "argv", ["emozoo", "info", "nothing", "--json"])
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main() == 2
    assert capsys.readouterr().out == ""


def test_a_page_that_cannot_be_written_is_known_first(monkeypatch, capsys, tmp_path):
    """Protects hours of `emozoo check`: a folder in place of its page is refused before it begins."""
    from emozoo.data import doctor

    monkeypatch.setattr(doctor, "check", lambda *_: pytest.fail("work before the check"))
    monkeypatch.setattr(sys, "argv", ["emozoo", "check", str(tmp_path), "--html", str(tmp_path)])
    assert cli.main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: is a folder; give the name of a file\n"


def test_pickled_and_altered_weights_are_refused(emozoo, folder_of, media, tmp_path):
    """Protects from foreign code and damaged files: one line each, and nothing is run."""
    import shutil

    pickled = tmp_path / "model.pt"
    pickled.write_bytes(b"\x80\x02}q\x00.")
    done = emozoo("predict", media / "face.mp4", "--model", pickled)
    assert (done.code, len(done.err.strip().splitlines())) == (3, 1)
    assert "safetensors" in done.err
    altered = shutil.copytree(folder_of("ceflnet"), tmp_path / "altered")
    data = bytearray((altered / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (altered / "model.safetensors").write_bytes(data)
    done = emozoo("predict", media / "face.mp4", "--model", altered)
    assert (done.code, len(done.err.strip().splitlines())) == (3, 1)
    assert "sha256" in done.err


def test_missing_file_is_answered(emozoo, folder_of, tmp_path):
    """Protects lists of files: one that is not there is one line and exit code 1, and the JSON says so."""
    done = emozoo("predict", "nowhere.mp4", "--model", folder_of("ceflnet"), "--json", cwd=tmp_path)
    assert done.code == 1
    assert done.lines[0]["error"]["code"] == "missing"
    assert done.err.count("\n") == 1


def test_synth_then_check(emozoo, tmp_path):
    """Protects the drawn data: ordinary files with a manifest, in which the doctor finds nothing broken."""
    done = emozoo("synth", "--out", tmp_path / "drawn", "--n", 2, "--seed", 5)
    assert done.code == 0, done.err
    manifest = tmp_path / "drawn" / "manifest.csv"
    assert done.out.strip() == str(manifest)
    assert len(list((tmp_path / "drawn").rglob("*.mp4"))) == 2
    report = json.loads(emozoo("check", manifest, "--json").out)
    assert report["items"] == 2
    assert len(report["content_sha256"]) == 64
    assert {f["code"] for f in report["findings"]} <= {"empty_class", "group_across_splits"}


def test_check_finds_and_says_so(emozoo, tmp_path, media):
    """Protects data from silent faults: a broken file is a finding with a cure, and exit code 1."""
    for name, file in (("happy", "face.mp4"), ("sad", "broken.mp4")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes((media / file).read_bytes())
    done = emozoo("check", "folder", "--root", tmp_path, "--json")
    assert done.code == 1
    finding = next(f for f in json.loads(done.out)["findings"] if f["item"] == "sad/broken")
    assert set(finding) == {"code", "item", "text", "fix"}


def test_train_hands_arguments_on(emozoo):
    """Protects `emozoo train`: Lightning's command line answers, with its own help."""
    done = emozoo("train", "--help")
    assert done.code == 0
    assert "--trainer" in done.out
