"""`emozoo speed`: what a model costs on the user's machine."""

from __future__ import annotations

import json
import subprocess
import sys


def test_speed_tells_what_a_model_costs() -> None:
    """Protects the choice of a model: numbers for each one asked for, work that grows with the network, no network."""
    command = [sys.executable, "-m", "emozoo", "speed", "ceflnet", "emotion_fan.ferplus_v3", "--batch", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    clips, frames = json.loads(done.stdout)["models"]
    assert clips["name"].startswith("ceflnet.")
    assert frames["name"] == "emotion_fan.ferplus_v3"
    for m in (clips, frames):
        assert m["latency_ms"] > 0
        assert m["clips_per_s"] > 0
        assert m["batch"] == 2
    assert clips["gmacs"] > 5 * frames["gmacs"]  # nine images of a face beside one
    assert 3e6 < frames["parameters"] < 4e6


def test_a_mistyped_name_is_one_line() -> None:
    """Protects users: a wrong name is refused before anything is measured."""
    command = [sys.executable, "-m", "emozoo", "speed", "ceflnet", "cefnet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "ceflnet" in done.stderr
