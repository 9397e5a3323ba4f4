"""Predict a clip, read the prediction over time, and plot it.

python examples/predict_clip.py my.mp4        without a clip, or where it does not exist, one is drawn

"# %%" begins a cell: VS Code, PyCharm, Spyder and Jupytext run them one by one, as in a notebook.
"""

# %% The clip: yours, or a drawn person with a voice who shows four emotions for four seconds each

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import emozoo
from emozoo.synthemo import VIEWS, Cause, Knobs, Rendered, plan, render, write_clip

EMOTIONS, SECONDS = ("happiness", "surprise", "sadness", "anger"), 4.0


def draw(path: Path) -> None:
    """Writes an mp4 of one person, whom the embedded weights have not seen, in a scene without a mood of its own."""
    knobs = Knobs(face=1, voice=1, occlusion=0)
    person: Cause = plan(seed=11, index=1, knobs=knobs, split="test", size=(480, 360), seconds=SECONDS, fps=25)
    shown = [replace(person, label=e, shows=tuple("neutral" if v == "scene" else e for v in VIEWS)) for e in EMOTIONS]
    parts = [render(cause) for cause in shown]
    whole = Rendered(
        frames=np.concatenate([p.frames for p in parts]),
        waveform=np.concatenate([p.waveform for p in parts]),
        rate=parts[0].rate,
        va=np.concatenate([p.va for p in parts]),
        boxes=np.concatenate([p.boxes for p in parts]),
        cause=replace(person, seconds=SECONDS * len(parts)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(whole, path)


given = [Path(a) for a in sys.argv[1:] if a.endswith(".mp4")]  # notebooks have other arguments
clip = given[0] if given else Path("runs/predict_clip/drawn.mp4")
if not clip.is_file():
    draw(clip)
    print(f"drew {clip}: {', '.join(EMOTIONS)}, {SECONDS:g} s each")

# %% The model: a LightningModule with trained weights, which lie in the package

model: emozoo.EmotionModule = emozoo.load("ceflnet")
spec: emozoo.ClipSpec = model.spec  # what the weights look at; stored with them
print(f"{model.name}: {', '.join(model.classes)}; windows of {spec.window_s:g} s")

# %% The prediction: a label for the file, and scores for every second of the face that is seen longest

prediction: emozoo.Prediction = emozoo.predict(clip, model, every=1.0)
if prediction.error:
    sys.exit(f"{clip}: {prediction.error['text']}")
print(f"whole file: {prediction.label}, scores {prediction.scores}")
for moment in prediction.timeline:
    if moment.scores:
        likeliest = max(moment.scores, key=moment.scores.__getitem__)
        print(f"{moment.start_s:5.1f} s  {likeliest:10} {moment.scores[likeliest]:.2f}")
for warning in prediction.warnings:
    print(f"warning {warning['code']}: {warning['text']}")

# %% The files: a plot and a table beside the clip

prediction.plot(clip.with_name(f"{clip.stem}.emozoo.png"))
prediction.to_csv(clip.with_name(f"{clip.stem}.emozoo.csv"))
print(f"wrote {clip.stem}.emozoo.png and {clip.stem}.emozoo.csv in {clip.parent}")
