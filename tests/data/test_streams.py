"""Streams: only their own file knows them by name, and what one lacks is nothing of another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import emozoo
from emozoo.data import streams as streams_module
from emozoo.data.clips import ClipReader, to_batch
from emozoo.data.store import Cover
from emozoo.data.streams import AudioStream, Reading, Stream, register, streams_of
from emozoo.data.transforms import Augment
from emozoo.errors import UsageError
from emozoo.spec import KINDS, AudioSpec, ClipSpec, StreamKind, StreamSpec, stored_names

PACKAGE = Path(emozoo.__file__).parent
SOURCES = {"face", "context", "frame", "audio"}
# Where such a word is no question about a source: the table of sources, networks and their registry, which name their
# own streams, drawn people, columns and folders of data sets, and the keys of stored files.
ALLOWED = (
    "spec.py", "data/streams.py", "models/", "papers.py", "synthemo/", "data/datasets/", "data/protocols.py",
    "data/store_check.py",
)  # fmt: skip


def asked(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines that compare with a source's name, look it up in a table or match it, or guess by the number of axes."""
    for node in ast.walk(tree):
        found: list[ast.AST | None] = []
        if isinstance(node, ast.Compare):
            found = [node.left, *node.comparators]
            if isinstance(node.left, ast.Attribute) and node.left.attr == "ndim":
                guesses = [c for c in node.comparators if isinstance(c, ast.Constant) and c.value in (5, 6)]
                yield from ((node.lineno, "ndim") for _ in guesses)
        elif isinstance(node, ast.Dict):
            found = list(node.keys)
        elif isinstance(node, ast.MatchValue):
            found = [node.value]
        for part in found:
            if isinstance(part, ast.Tuple | ast.List | ast.Set):
                found += part.elts
            elif isinstance(part, ast.Constant) and part.value in SOURCES:
                yield part.lineno, str(part.value)


def test_only_streams_know_sources_by_name():
    """Protects the next source: nothing outside of streams.py decides by the name of one."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if not name.startswith(ALLOWED):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [f"{name}:{line} {word}" for line, word in asked(tree)]
    assert not found
    seen = list(asked(ast.parse("s in ('face', 'x'); {'audio': 1}; 'frame' == s; x.ndim == 6")))
    assert len(seen) == 4, "the test finds them"


def test_sources_and_their_classes_are_one_table():
    """Protects specs, which are checked without the classes: what spec.py says of a source is what its class says."""
    assert set(KINDS) >= SOURCES
    for source in SOURCES:
        audio = {"audio": AudioSpec()} if KINDS[source].needs_audio else {}
        spec = ClipSpec({"x": StreamSpec(source, (8, 8), **audio)}, 1, "segments", 1.0)
        stream = streams_of(spec)["x"]
        assert stream.kind is KINDS[source] is spec.streams["x"].kind
        assert isinstance(stream, AudioStream) == spec.needs_audio != spec.needs_images
        assert spec.needs_face == (source in ("face", "context"))
        assert stream.stored() is not None


@pytest.fixture
def brightness() -> Iterator[ClipSpec]:
    """A spec with a source of one number a frame, registered for one test, beside the frame itself."""

    @register("brightness")
    class Brightness(Stream):
        kind = StreamKind({"F": "frames", "N": "rows", "D": "numbers"}, needs_images=True)

        def read(self, media, moments):
            at = moments.of(self)
            values = at.frames[..., None, None].astype(np.float32)
            mask = at.mask & (at.frames % 2 == 0)
            return Reading(values, mask, at.frames)

    streams = {"b": StreamSpec("brightness", (1, 1), 4, mean=(1.0,), std=(2.0,)), "f": StreamSpec("frame", (8, 8), 4)}
    yield ClipSpec(streams, 2, "segments", 2.0)
    del KINDS["brightness"], streams_module._STREAMS["brightness"]


def test_a_source_of_ones_own_is_neither_image_nor_audio(brightness, tmp_path, make_video):
    """Protects a registered source: read at its moments, zero where masked, normalised, not augmented as another."""
    with ClipReader(make_video(tmp_path / "a.mp4"), brightness) as reader:
        raw = reader.read()
    odd = raw.frames["b"] % 2 == 1
    assert odd.any()
    assert not raw.masks["b"][odd].any()
    augment = Augment(flip=1.0, light=0.5, gain=6.0, hiss=3.0)
    plain, augmented = to_batch([raw], brightness), to_batch([raw], brightness, augment=augment, seeds=[0])
    assert torch.equal(plain.inputs["b"], augmented.inputs["b"])
    assert not torch.equal(plain.inputs["f"], augmented.inputs["f"])
    assert plain.inputs["b"].shape == (1, 2, 4, 1, 1)
    wanted = np.where(odd, 0, (raw.frames["b"] - 1) / 2)
    assert plain.inputs["b"][0, :, :, 0, 0].numpy() == pytest.approx(wanted)
    assert not plain.one_image


def test_a_source_has_one_class():
    """Protects the sources there are: no file that is imported later takes their place."""
    with pytest.raises(UsageError, match=r"the source 'face' belongs to emozoo.data.streams.FaceStream"):
        register("face")(AudioStream)


def test_an_unknown_source_names_those_there_are():
    """Protects specs from typing errors, and from processes that did not import the class."""
    with pytest.raises(UsageError, match="no source 'pose': there are face, context, frame, audio"):
        StreamSpec("pose", (17, 2))


def test_cached_features_are_found_under_the_first_names_of_fields():
    """Protects features that were cached before fields of specs were renamed."""
    assert stored_names({"position": "center", "audio": AudioSpec(cmn=True), "sampling": "trailing"}) == (
        "{'place': 'centre', 'audio': AudioSpec(rate=16000, win=400, hop=160, fft=512, seconds=1.0, top_db=80.0, "
        "kind='log_mel', centre=True), 'sampling': 'trail'}"
    )


def test_no_store_serves_a_source_that_it_does_not_know(brightness):
    """Protects against a store that silently leaves a stream out."""
    with pytest.raises(UsageError, match="stream b is of a source that no store holds"):
        Cover.of([brightness])
