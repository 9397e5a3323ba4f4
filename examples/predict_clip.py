"""Predict a clip, read the prediction over time, and plot it.

python examples/predict_clip.py my.mp4        without a clip, drawn.mp4 is made and predicted

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
ACTED = [(i * SECONDS, (i + 1) * SECONDS, emotion) for i, emotion in enumerate(EMOTIONS)]


def draw(path: Path) -> None:
    """Writes an mp4 of one person, whom the embedded weights have not seen, in a scene without a mood of its own."""
    knobs = Knobs(face=1, voice=1, occlusion=0)
    person: Cause = plan(seed=11, index=1, knobs=knobs, split="test", size=(640, 480), seconds=SECONDS, fps=25)
    parts = []
    for emotion in EMOTIONS:
        # The detector of these weights takes clenched fists for faces, so the hands rest in anger.
        calm = {"scene", "action"} if emotion == "anger" else {"scene"}
        shows = tuple("neutral" if view in calm else emotion for view in VIEWS)
        parts.append(render(replace(person, label=emotion, shows=shows, peak=1.0)))  # peak: as clearly as possible
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
is_drawn = clip.name == "drawn.mp4"
if is_drawn and not clip.is_file():
    draw(clip)
    print(f"drew {clip}: {', '.join(EMOTIONS)}, {SECONDS:g} s each")

# %% The model: a LightningModule with trained weights, which lie in the package

# The default weights, "ceflnet", have learned from photographs of people. Drawn faces are answered by weights that know
# drawings, from other drawn people than this one.
model: emozoo.EmotionModule = emozoo.load("ceflnet.synth_v1" if is_drawn else "ceflnet")
spec: emozoo.ClipSpec = model.spec  # what the weights look at; stored with them
print(f"{model.name}: {', '.join(model.classes)}; windows of {spec.window_s:g} s")
print(f"trained on {model.config['trained_on']}")

# %% The prediction: a label for the file, and scores for every half second of the face that is seen longest

prediction: emozoo.Prediction = emozoo.predict(clip, model, every=0.5)
if prediction.error:
    sys.exit(f"{clip}: {prediction.error['text']}")
print(f"whole file: {prediction.label}, scores {prediction.scores}")
for moment in prediction.timeline:
    if moment.scores:
        likeliest = max(moment.scores, key=moment.scores.__getitem__)
        print(f"{moment.start_s:5.1f} s  {likeliest:10} {moment.scores[likeliest]:.2f}")
for warning in prediction.warnings:
    print(f"warning {warning['code']}: {warning['text']}")

# %% The four parts of the drawn clip: the mean scores of each, beside what was acted

for start, end, acted in ACTED if is_drawn else ():
    part = [m.scores for m in prediction.timeline if start <= m.start_s and m.end_s <= end + 0.01 and m.scores]
    mean = {name: sum(scores[name] for scores in part) / len(part) for name in prediction.classes}
    likeliest = max(mean, key=mean.__getitem__)
    print(f"{start:g} to {end:g} s: acted {acted}, predicted {likeliest} {mean[likeliest]:.2f}")

# %% The files: a plot, an annotated video and a table beside the clip

stem = clip.with_name(f"{clip.stem}.emozoo")
prediction.plot(f"{stem}.png", acted=ACTED if is_drawn else ())
prediction.video(f"{stem}.mp4")
prediction.to_csv(f"{stem}.csv")
Path(f"{stem}.json").write_text(prediction.to_json(), encoding="utf-8")
print(f"wrote {stem}.png, .mp4, .csv and .json")
