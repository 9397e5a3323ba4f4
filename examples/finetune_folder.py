"""Fine-tune on a folder of class folders, then predict with the result.

python examples/finetune_folder.py my_clips        my_clips/<class>/<videos, images, audio files>

Without a folder, images of drawn people are made: two classes that the weights do not know by these names. On the
command line the same is `emozoo finetune emotion_fan --data my_clips --out my_model`.
"""

# %% The data: yours, or twelve people who smile and twelve who frown

import sys
from pathlib import Path

from PIL import Image

import emozoo
from emozoo.finetune import finetune
from emozoo.synthemo import Knobs, plan, render

given = [Path(a) for a in sys.argv[1:] if Path(a).is_dir()]  # notebooks have other arguments
data = given[0] if given else Path("runs/finetune_folder/faces")
if not given:
    names = {"happiness": "smiling", "anger": "frowning"}
    knobs = Knobs(face=1, occlusion=0, emotions=tuple(names))  # the face always shows one of the two
    for index in range(24):
        cause = plan(seed=3, index=index, knobs=knobs, split="train", size=(192, 144), seconds=1.0, fps=6)
        frames, folder = render(cause).frames, data / names[cause.label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frames[len(frames) // 2]).save(folder / f"{index:02}.png")

# %% Training: a new head on an encoder of faces; a fifth of the items of each class is held out

model_folder = Path("runs/finetune_folder/model")
found = finetune("emotion_fan", data, model_folder, epochs=6, batch_size=8, device="cpu", resume=False)
print(f"classes {', '.join(found['classes'])}; {found['n_train']} items trained on, {found['n_val']} held out")
print(f"held out: WAR {found['val_WAR']:.2f}, UAR {found['val_UAR']:.2f}")

# %% The result loads like any weights: here, in `emozoo predict --model`, in `emozoo benchmark --model`

model = emozoo.load(str(model_folder))
for prediction in emozoo.predict([sorted((data / name).glob("*"))[0] for name in found["classes"]], model):
    print(prediction.file, prediction.label, prediction.scores)
