"""What is loaded when: the parts that must stay light stay light, and layers stay layers."""

import resource
import subprocess
import sys
from pathlib import Path

import grimp

from emozoo.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
EMOZOO = Path(sys.executable).with_name("emozoo")
HEAVY = ("torch", "torchvision", "lightning", "torchmetrics", "timm", "matplotlib", "pandas")
DECODERS = ("av", "decord", "cv2", "albumentations")


def loaded(code: str) -> list[str]:
    """The heavy packages in memory after some code has run in an interpreter of its own."""
    code += f"\nimport sys\nprint(*[name for name in {(*HEAVY, *DECODERS)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.splitlines()[-1].split()


def test_import_is_light():
    """Protects `import emozoo` and the registry from loading torch or anything as heavy."""
    assert loaded("import emozoo; emozoo.list_models(); emozoo.list_weights()") == []


def test_public_names_are_announced():
    """Protects completion and documentation: every public name of the contract is listed without loading torch."""
    names = "load", "list_models", "list_weights", "predict", "EmotionDataModule"
    assert loaded(f"import emozoo; assert set({names!r}) <= set(dir(emozoo)), dir(emozoo)") == []


def test_a_module_brings_no_data():
    """Protects a model on a machine that only computes: the module loads no decoder, no table reader, no data room."""
    ours = "[n for n in sys.modules if n.startswith(('emozoo.data', 'emozoo.zoo', 'emozoo.callbacks'))]"
    found = loaded(f"import sys, emozoo.module; assert not {ours}, {ours}")
    assert not set(found) & {"av", "decord", "cv2", "albumentations", "pandas"}


def test_list_is_quick():
    """Protects the 0.3 s of `emozoo list`; processor time, best of five, so that a busy machine does not matter."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([EMOZOO, "list"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "ceflnet" in done.stdout
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_list_loads_no_torch():
    """Protects `emozoo list` from an import that creeps into the command line module."""
    code = (
        "import sys\nfrom emozoo.cli import main\nsys.argv = ['emozoo', 'list']\ntry: main()\nexcept SystemExit: pass"
    )
    assert not {"torch", "lightning", "albumentations", "cv2"} & set(loaded(code))


def test_augmentation_is_loaded_before_workers_start():
    """Protects training from workers that each import albumentations, epoch by epoch; without it, nothing loads it."""
    code = (
        "from emozoo.data.loading import Collate\nfrom emozoo.data.transforms import Augment\n"
        "Collate([], None, None, {{'face': Augment({})}}, skip=True)"
    )
    assert "albumentations" in loaded(code.format("light=0.2"))
    assert "albumentations" not in loaded(code.format("flip=0.5, rotate=10"))


def test_layers():
    """Protects the order of imports that docs/architecture.md draws (contracts in pyproject.toml)."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_module_opens_no_media():
    """Protects networks on features and servers from loading decoders: the Lightning module imports no data code."""
    assert not set(DECODERS) & set(loaded("import emozoo.module"))


def test_paper_files_stand_alone():
    """Protects: a paper's file can be read and copied alone: of ours it imports the shared blocks, no other paper."""
    blocks = {f"emozoo.models.{name}" for name in ("network", "layers", "backbones", "correlation")}
    graph = grimp.build_graph("emozoo", exclude_type_checking_imports=False)
    papers = {spec.network.partition(":")[0] for spec in MODELS.values()}
    assert len(papers) == len(MODELS)
    for paper in papers & graph.modules:
        assert graph.find_modules_directly_imported_by(paper) <= blocks, paper
