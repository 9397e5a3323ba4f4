"""Images: orientation, colours, damage, size, animation, and folders of frames."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile_media import png
from PIL import Image, features

from emozoo.data import animation, faces, images, media
from emozoo.data.clips import ClipReader
from emozoo.data.manifest import AUDIOS, IMAGES, MEDIA, VIDEOS
from emozoo.errors import VideoError
from emozoo.spec import ClipSpec, StreamSpec

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
AVIF = pytest.param("avif", marks=needs_avif)
COLOURS = ((200, 30, 30), (30, 190, 40), (30, 40, 200), (220, 210, 40))
# What a writer does to the upright image, so that a viewer who obeys the tag shows it upright again.
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def patches(height: int = 40, width: int = 60) -> np.ndarray:
    """Four colours, one in each quarter."""
    out = np.zeros((height, width, 3), np.uint8)
    for k, colour in enumerate(COLOURS):
        y, x = k // 2 * height // 2, k % 2 * width // 2
        out[y : y + height // 2, x : x + width // 2] = colour
    return out


def soft(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encoded(image: np.ndarray | Image.Image, suffix: str, **how: object) -> bytes:
    out = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if suffix in ("jpg", "avif") and "quality" not in how and image.mode != "CMYK":
        how |= {"quality": 95, "subsampling": 0 if suffix == "jpg" else "4:4:4"}
    if suffix == "webp":
        how = {"lossless": True} | how
    image.save(out, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **how)
    return out.getvalue()


def near(image: np.ndarray, wanted: np.ndarray, by: float = 6) -> bool:
    return image.shape == wanted.shape and float(np.abs(image.astype(int) - wanted).mean()) < by


def codes(warnings: Sequence[media.Warn]) -> list[str]:
    return [w.code for w in warnings]


def whole_frames() -> ClipSpec:
    return ClipSpec({"frame": StreamSpec("frame", (16, 16))}, clips=2, sampling="segments", window_s=1.0)


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", AVIF])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_once_as_their_tag_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Protects phone photos, also mirrored ones: every format shows what a viewer shows, never turned twice."""
    image = Image.fromarray(patches())
    if orientation in STORED_AS:
        image = image.transpose(STORED_AS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / f"a.{suffix}").write_bytes(encoded(image, suffix, exif=exif))
    assert near(images.read_image(tmp_path / f"a.{suffix}")[0], patches())
    assert near(next(media.open_frames(tmp_path / f"a.{suffix}").frames([0])), patches())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_turned_once(tmp_path: Path, orientation: int) -> None:
    """Protects 16-bit TIFFs with an orientation, which another decoder reads."""
    image = Image.fromarray(patches())
    if orientation in STORED_AS:
        image = image.transpose(STORED_AS[orientation])
    stored = np.asarray(image).astype(np.uint16) * 257
    data = bytearray(cv2.imencode(".tif", stored[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes())
    directory = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[directory : directory + 2])[0]
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack("<H", data[at : at + 2])[0] == 254:  # its first tag, of no use here, gives way
            break
    entries = [bytes(data[at : at + 12]) for at in range(directory + 2, directory + 2 + 12 * count, 12)]
    entries = [e for e in entries if struct.unpack("<H", e[:2])[0] != 274]
    entries = sorted([*entries, struct.pack("<HHIHH", 274, 3, 1, orientation, 0)], key=lambda e: e[:2][::-1])
    new = len(data) + len(data) % 2
    data += b"\0" * (len(data) % 2) + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    data[4:8] = struct.pack("<I", new)
    (tmp_path / "a.tif").write_bytes(data)
    assert near(images.read_image(tmp_path / "a.tif")[0], patches(), by=1)


# --- the fast path ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
@pytest.mark.parametrize("grey", [False, True])
def test_ordinary_images_have_the_pixels_of_opencv(tmp_path: Path, suffix: str, grey: bool) -> None:
    """Protects published results: not one pixel of an ordinary JPEG, PNG or BMP differs from OpenCV's."""
    image = soft()[..., 0] if grey else soft()
    data = cv2.imencode(f".{suffix}", image)[1]
    (tmp_path / f"a.{suffix}").write_bytes(data.tobytes())
    read, warnings = images.read_image(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read, cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
    assert not warnings


# --- colours ---------------------------------------------------------------------------------------------------------


def _over(colour: tuple[int, ...], alpha: float) -> np.ndarray:
    return np.array([round(c * alpha + 255 * (1 - alpha)) for c in colour])


RED = COLOURS[0]
GREY = (90, 90, 90)


def _flat(*values: int, dtype: type = np.uint8) -> np.ndarray:
    value = np.array(values, dtype=dtype)
    return np.broadcast_to(value if len(values) > 1 else value[0], (24, 32, *value.shape[: len(values) > 1])).copy()


def _png(value: np.ndarray) -> bytes:
    return cv2.imencode(".png", value[..., ::-1] if value.ndim == 3 and value.shape[2] == 3 else value)[1].tobytes()


def _tiff(value: np.ndarray) -> bytes:
    return cv2.imencode(".tif", value[..., ::-1] if value.ndim == 3 else value)[1].tobytes()


PALETTE = Image.fromarray(_flat(*RED)).convert("P", palette=Image.Palette.ADAPTIVE)
SHOWN = {
    "palette.png": (encoded(PALETTE, "png"), RED),
    "see-through palette.png": (encoded(PALETTE, "png", transparency=bytes([128] * 256)), _over(RED, 128 / 255)),
    "black and white.png": (encoded(Image.new("1", (32, 24), 1), "png"), (255, 255, 255)),
    "grey.png": (encoded(_flat(90), "png"), GREY),
    "grey and alpha.png": (encoded(Image.new("LA", (32, 24), (90, 128)), "png"), _over(GREY, 128 / 255)),
    "alpha.png": (encoded(Image.new("RGBA", (32, 24), (*RED, 64)), "png"), _over(RED, 64 / 255)),
    "opaque.png": (encoded(Image.new("RGBA", (32, 24), (*RED, 255)), "png"), RED),
    "clear.png": (encoded(Image.new("RGBA", (32, 24), (0, 0, 0, 0)), "png"), (255, 255, 255)),
    "clear colour.png": (encoded(Image.new("RGB", (32, 24), RED), "png", transparency=RED), (255, 255, 255)),
    "16 bit.png": (_png(_flat(*RED).astype(np.uint16) * 257), RED),
    "16 bit grey.png": (_png(_flat(90).astype(np.uint16) * 257), GREY),
    "alpha.webp": (encoded(Image.new("RGBA", (32, 24), (*RED, 64)), "webp"), _over(RED, 64 / 255)),
    "alpha.gif": (encoded(Image.new("RGBA", (32, 24), (0, 0, 0, 0)), "gif"), (255, 255, 255)),
    "one.gif": (encoded(_flat(*RED), "gif"), RED),
    "inks.jpg": (encoded(Image.new("CMYK", (32, 24), (0, 200, 200, 40)), "jpg", quality=95), (215, 46, 46)),
    "inks.tif": (encoded(Image.new("CMYK", (32, 24), (0, 200, 200, 40)), "tif"), (215, 46, 46)),
    "squeezed.tif": (encoded(_flat(*RED), "tif", compression="tiff_lzw"), RED),
    "alpha.tif": (encoded(Image.new("RGBA", (32, 24), (*RED, 64)), "tif"), _over(RED, 64 / 255)),
    "16 bit.tif": (_tiff(_flat(*RED).astype(np.uint16) * 257), RED),
    "16 bit grey.tif": (_tiff(_flat(90).astype(np.uint16) * 257), GREY),
    "float.tif": (_tiff((_flat(*RED) / 255).astype(np.float32)), RED),
    "float grey.tif": (_tiff((_flat(90) / 255).astype(np.float32)), GREY),
    "float to 255.tif": (_tiff(_flat(*RED).astype(np.float32)), RED),
}


@pytest.mark.parametrize("name", SHOWN)
def test_colours_are_those_that_a_viewer_shows(tmp_path: Path, name: str) -> None:
    """Protects every way of storing a colour: palettes, depths, inks, floats; transparency over white."""
    data, colour = SHOWN[name]
    (tmp_path / name).write_bytes(data)
    image, warnings = images.read_image(tmp_path / name)
    assert image.shape == (24, 32, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.reshape(-1, 3).mean(0) - colour).max() <= 3
    assert not warnings


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [10, 12])
def test_camera_depths_in_16_bits_are_not_black(tmp_path: Path, suffix: str, bits: int) -> None:
    """Protects images of 10 and 12 bits in files of 16: read by their own depth, and said so."""
    value = soft().astype(np.uint16) << (bits - 8)
    (tmp_path / f"a.{suffix}").write_bytes(_png(value) if suffix == "png" else _tiff(value))
    image, warnings = images.read_image(tmp_path / f"a.{suffix}")
    assert near(image, soft(), by=1)
    assert codes(warnings) == ["bit_depth"]


# --- damage ----------------------------------------------------------------------------------------------------------

PROGRESSIVE = {"progressive": True}


@pytest.mark.parametrize("how", [{}, PROGRESSIVE], ids=["baseline", "progressive"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.995])
def test_a_jpeg_that_is_cut_off_is_used_as_far_as_it_goes(tmp_path: Path, part: float, how: dict) -> None:
    """Protects half-fetched photos: what is there is shown, with a warning, and is never called no image."""
    data = encoded(soft(), "jpg", **how)
    (tmp_path / "cut.jpg").write_bytes(data[: int(len(data) * part)])
    image, warnings = images.read_image(tmp_path / "cut.jpg")
    assert codes(warnings) == ["broken_tail"]
    assert "cut off" in warnings[0].text
    assert near(image[:16], soft()[:16], by=12)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "bmp", AVIF])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_image_that_is_cut_off_is_told_so(tmp_path: Path, suffix: str, part: float) -> None:
    """Protects the message: a cut file is used with a warning or refused as cut, never called no image."""
    data = encoded(soft(), suffix)
    (tmp_path / f"a.{suffix}").write_bytes(data[: max(int(len(data) * part), 32)])
    warnings, refused = [], None
    try:
        _, warnings = images.read_image(tmp_path / f"a.{suffix}")
    except VideoError as error:
        refused = error
    if refused is None:
        assert codes(warnings) == ["broken_tail"]
    else:
        assert refused.code == "broken"
        assert "cut off" in str(refused)
        assert "\n" not in str(refused)


def test_a_jpeg_cut_off_behind_its_thumbnail_is_cut_off(tmp_path: Path) -> None:
    """Protects phone photos: the end mark of the thumbnail in their header is not that of the image."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 100 + "\xff\xd9"
    data = encoded(soft(), "jpg")
    thumbnail = encoded(soft(16, 16), "jpg")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    (tmp_path / "a.jpg").write_bytes(data[: len(thumbnail) + 2500])
    assert codes(images.read_image(tmp_path / "a.jpg")[1]) == ["broken_tail"]


@pytest.mark.parametrize("behind", [b"\0" * 9000, b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 60])
@pytest.mark.parametrize("how", [{}, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_motion_photo_is_whole(tmp_path: Path, behind: bytes, how: dict) -> None:
    """Protects photos with a film behind them: they are whole, and have the pixels of the photo alone."""
    data = encoded(soft(), "jpg", **how)
    (tmp_path / "photo.jpg").write_bytes(data)
    (tmp_path / "motion.jpg").write_bytes(data + behind)
    image, warnings = images.read_image(tmp_path / "motion.jpg")
    assert not warnings
    np.testing.assert_array_equal(image, images.read_image(tmp_path / "photo.jpg")[0])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
        (b"\n\n <html lang='en'>", "HTML page"),
        (b"<?xml version='1.0'?><svg></svg>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("Kein Bild, nur Wörter".encode(), "a text file"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04" + b"\x01" * 40, "ZIP"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\1" * 40, "video or audio file"),
        (b"\0" * 5000, "zero"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "macOS"),
        (bytes(range(128, 256)) * 4, "no known image format"),
    ],
)
def test_what_is_no_image_is_told_what_it_is(tmp_path: Path, data: bytes, said: str) -> None:
    """Protects the message about files that are no image whatever their name says."""
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(VideoError, match=said) as error:
        images.read_image(tmp_path / "a.jpg")
    assert error.value.code == "unreadable"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "bmp", AVIF])
@pytest.mark.parametrize("named", ["jpg", "png", "webp", "tif"])
def test_a_wrong_ending_does_not_matter(tmp_path: Path, suffix: str, named: str) -> None:
    """Protects files named by somebody else: the content says what they are."""
    (tmp_path / f"a.{named}").write_bytes(encoded(patches(), suffix))
    assert near(images.read_image(tmp_path / f"a.{named}")[0], patches(), by=10)


# --- size ------------------------------------------------------------------------------------------------------------


def _write_huge(path: Path) -> None:
    suffix = path.suffix[1:]
    if suffix == "png":
        return png(path, 40000, 30000, 8, 0, zlib.compress(b""))
    data = bytearray(encoded(soft(), suffix))
    if suffix == "jpg":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", 30000, 40000)
    elif suffix == "gif":
        data[6:10] = struct.pack("<HH", 40000, 30000)
    elif suffix == "bmp":
        data[18:26] = struct.pack("<II", 40000, 30000)
    else:
        directory = struct.unpack("<I", data[4:8])[0]
        for at in range(directory + 2, directory + 2 + 24, 12):
            tag = struct.unpack("<H", data[at : at + 2])[0]
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, {256: 40000, 257: 30000}[tag])
    path.write_bytes(data)
    return None


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif"])
def test_a_huge_image_is_refused_by_its_header(tmp_path: Path, suffix: str) -> None:
    """Protects memory: 1.2 thousand million pixels are refused in one line before one of them is decoded."""
    _write_huge(tmp_path / f"a.{suffix}")
    for read in (images.read_image, media.open_frames):
        with pytest.raises(VideoError, match="too large") as error:
            read(tmp_path / f"a.{suffix}")
        assert error.value.code == "unreadable"
        assert "\n" not in str(error.value)
    if suffix in ("png", "jpg"):
        assert "40000 x 30000" in str(error.value)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    """Protects memory: a disk image named .jpg is not read whole."""
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(VideoError, match=r"too large for an image \(3\.2 GB\)"):
        media.open_frames(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (2, 60000), (60000, 3), (97, 9000)])
def test_extreme_shapes_pass_through_face_detection(tmp_path: Path, size: tuple[int, int]) -> None:
    """Protects against images of a line or a point: looked at without a crash, and without much memory."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((size[1], size[0], 3), 90, np.uint8))
    spec = ClipSpec(
        {"face": StreamSpec("face", (16, 16)), "frame": StreamSpec("frame", (16, 16))},
        1,
        "segments",
        window_s=1.0,
        detector="cascade",
    )
    with ClipReader(tmp_path / "a.png", spec) as reader:
        assert reader.size == size
        raw = reader.read()
    assert raw.no_face
    assert raw.streams["frame"].mean() == pytest.approx(90, abs=1)


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (30, 4000)])
def test_yunet_is_given_images_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Protects memory: a line is not enlarged until its short side is long."""
    seen = []

    class Model:
        def __init__(self, path: str, config: str, size: Sequence[int], **_: object) -> None:
            seen.append(size)

        def detect(self, image: np.ndarray) -> tuple[int, None]:
            assert image.shape[1::-1] == tuple(seen[-1])
            return 1, None

    model = tmp_path / "model.onnx"
    model.write_bytes(b"a model")
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", Model)
    faces._yunet.cache_clear()
    try:
        found = faces._yunet(str(model))(np.zeros((size[1], size[0], 3), np.uint8))
    finally:
        faces._yunet.cache_clear()
    assert found.shape == (0, 5)
    assert max(seen[0]) <= 2 * faces.LONG_SIDE
    assert min(seen[0]) >= 1


# --- HEIC ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["IMG_0001.HEIC", "a.heif", "named.jpg"])
def test_heic_without_a_decoder_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Protects photos of phones: never one of their tiles, but one line that names the extra."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100)
    with pytest.raises(VideoError, match=r"\.heic, \.heif.*emozoo\[heic\].*JPEG") as error:
        media.open_frames(tmp_path / name)
    assert error.value.code == "unreadable"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_with_a_decoder_is_whole_and_upright(tmp_path: Path, orientation: int) -> None:
    """Protects the extra: the whole photo, turned once."""
    heif = pytest.importorskip("pillow_heif")
    image = Image.fromarray(patches(80, 120))
    if orientation in STORED_AS:
        image = image.transpose(STORED_AS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    heif.from_pillow(image).save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    assert near(images.read_image(tmp_path / "a.heic")[0], patches(80, 120))


# --- animations ------------------------------------------------------------------------------------------------------

LEVELS = (10, 60, 110, 160, 210)


def animated(suffix: str, durations: Sequence[int], size: tuple[int, int] = (32, 24), **how: object) -> bytes:
    shown = [Image.new("RGB", size, (v, v, v)) for v in LEVELS[: len(durations)]]
    if suffix == "webp":
        how |= {"lossless": True}
    out = io.BytesIO()
    name = {"apng": "PNG"}.get(suffix, suffix.upper())
    shown[0].save(out, name, save_all=True, append_images=shown[1:], duration=list(durations), loop=0, **how)
    return out.getvalue()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "apng", AVIF])
def test_animated_images_are_clips(tmp_path: Path, suffix: str) -> None:
    """Protects animations: all of their frames, at their own times, in any order of reading."""
    (tmp_path / f"a.{suffix}").write_bytes(animated("png" if suffix == "apng" else suffix, (40, 80, 120, 40, 200)))
    images = media.open_frames(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(images.stamps, [0, 0.04, 0.12, 0.24, 0.28], atol=1e-6)
    assert images.size == (32, 24)
    for order in ([0, 1, 2, 3, 4], [3, 4], [0, 2], [1, 1]):
        assert [round(f.mean()) for f in images.frames(order)] == pytest.approx([LEVELS[i] for i in order], abs=2)
    images.close()
    with ClipReader(tmp_path / f"a.{suffix}", whole_frames()) as reader:
        assert not reader.is_still
        assert reader.duration == pytest.approx(0.35, abs=0.01)
        assert "still" not in codes(reader.warnings)
        raw = reader.read()
    assert len(np.unique(raw.frames["frame"])) > 1


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_frames_without_a_duration_last_a_tenth_of_a_second(tmp_path: Path, suffix: str) -> None:
    """Protects old animations, whose frames are said to last 0 or 10 ms: shown as browsers show them."""
    (tmp_path / f"a.{suffix}").write_bytes(animated(suffix, (0, 10, 0)))
    np.testing.assert_allclose(media.open_frames(tmp_path / f"a.{suffix}").stamps, [0, 0.1, 0.2])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_that_is_cut_off_is_told_so(tmp_path: Path, suffix: str) -> None:
    """Protects cut animations: the whole frames with a warning, or a refusal, never silence."""
    frames = [Image.fromarray(soft(48, 64, seed)) for seed in range(5)]
    out = io.BytesIO()
    frames[0].save(out, suffix.upper(), save_all=True, append_images=frames[1:], duration=40)
    (tmp_path / f"a.{suffix}").write_bytes(out.getvalue()[: int(len(out.getvalue()) * 0.7)])
    images = refused = None
    try:
        images = media.open_frames(tmp_path / f"a.{suffix}")
    except VideoError as error:
        refused = error
    if images is None:
        assert "cut off" in str(refused)
        return
    assert 1 <= len(images.stamps) < 5
    assert "broken_tail" in codes(images.warnings)
    assert len(list(images.frames(range(len(images.stamps))))) == len(images.stamps)


def test_an_endless_animation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects time and memory: the frames of an animation are bounded together."""
    monkeypatch.setattr(animation, "MOST_FRAME_PIXELS", 4 * 32 * 24)
    (tmp_path / "a.gif").write_bytes(animated("gif", (40,) * 5))
    with pytest.raises(VideoError, match="5 frames of 32 x 24 pixels is too large"):
        media.open_frames(tmp_path / "a.gif")


def test_many_pages_are_not_silent(tmp_path: Path) -> None:
    """Protects scans of many pages: the first is used, and said so."""
    pages = [Image.new("RGB", (32, 24), (v, v, v)) for v in LEVELS]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    images = media.open_frames(tmp_path / "a.tif")
    assert len(images.stamps) == 1
    assert codes(images.warnings) == ["first_picture"]
    assert round(next(images.frames([0])).mean()) == LEVELS[0]


# --- folders of frames -----------------------------------------------------------------------------------------------


def folder(at: Path, names: Sequence[str], size: tuple[int, int] = (8, 8)) -> Path:
    """Grey images, each brighter by 5 than the one before it."""
    at.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        (at / name).write_bytes(encoded(np.full((size[1], size[0], 3), 5 * i + 5, np.uint8), Path(name).suffix[1:]))
    return at


IN_ORDER = {
    "brackets": [f"Screenshot ({i}).png" for i in range(12)],
    "number within": [f"frame{i}_face.png" for i in range(12)],
    "padded": [f"{i:05d}.png" for i in range(12)],
    "clip and frame": [f"clip03_{i:04d}.png" for i in range(12)],
    "frame and face": [f"frame{i}_face0.png" for i in range(12)],
    "frame of 30": [f"f{i}_of_30.png" for i in range(12)],
    "date": [f"2024-05-17_take2_{i}.png" for i in range(12)],
    "date and number": [f"20240517_{i:06d}.png" for i in range(12)],
    "negative": [f"{i}.png" for i in range(-5, 7)],
    "dash": [f"clip-{i}.png" for i in range(12)],
    "mixed endings": [f"{i}.{'png' if i % 2 else 'jpg'}" for i in range(12)],
    "two counters": [f"shot1_{i}_cut{i}.png" for i in range(12)],
}


@pytest.mark.parametrize("kind", IN_ORDER)
def test_frames_are_ordered_by_the_number_that_varies(tmp_path: Path, kind: str) -> None:
    """Protects the order of frames, however their names count them: 10 comes behind 9, at 25 a second."""
    frames = media.open_frames(folder(tmp_path / "f", IN_ORDER[kind]))
    assert [round(f.mean() / 5) - 1 for f in frames.frames(range(12))] == list(range(12))
    np.testing.assert_allclose(frames.stamps * images.FOLDER_FPS, np.arange(12))
    assert not frames.warnings


@pytest.mark.parametrize(
    "names",
    [
        ["img.png", "img (1).png", "img (2).png", "img (10).png"],
        ["a2_1.png", "a2_2.png", "a10_1.png", "a10_2.png"],
        ["one.png", "two.png"],
        ["1.jpg", "1.png", "2.jpg", "2.png"],
    ],
)
def test_frames_whose_names_do_not_count_follow_evenly(tmp_path: Path, names: list[str]) -> None:
    """Protects other names: natural order, one after the other."""
    frames = media.open_frames(folder(tmp_path / "f", names))
    assert [round(f.mean() / 5) - 1 for f in frames.frames(range(len(names)))] == list(range(len(names)))
    np.testing.assert_allclose(frames.stamps * images.FOLDER_FPS, np.arange(len(names)))


@pytest.mark.parametrize("fps", [60, 50, 30, 25, 24, 15, 10, 5, 2, 1])
@pytest.mark.parametrize("per_s", [1000, 1_000_000])
@pytest.mark.parametrize("start", [0, 1_700_000_000_000])
def test_names_in_milliseconds_are_times(tmp_path: Path, fps: int, per_s: int, start: int) -> None:
    """Protects frames named by their time: their own rate, gaps kept, and the guess is said."""
    at = np.delete(np.arange(12), 7)
    frames = media.open_frames(folder(tmp_path / "f", [f"{start + round(i * per_s / fps)}.png" for i in at]))
    np.testing.assert_allclose(frames.stamps, at / fps, atol=1e-3)
    assert codes(frames.warnings) == ["assumed_rate"]
    assert f"{fps} frames a second" in frames.warnings[0].text


def test_names_in_milliseconds_may_be_numbered_too(tmp_path: Path) -> None:
    """Protects names such as 0003_0120, a number and a time."""
    frames = media.open_frames(folder(tmp_path / "f", [f"1000_{40 * i:04d}.png" for i in range(12)]))
    np.testing.assert_allclose(frames.stamps, np.arange(12) / 25)


@pytest.mark.parametrize("step", [2, 5, 10, 25, 30, 60])
def test_every_nth_frame_keeps_its_place(tmp_path: Path, step: int) -> None:
    """Protects thinned-out frames: every fifth of a video lies a fifth of a second apart, and the guess is said."""
    frames = media.open_frames(folder(tmp_path / "f", [f"f{step * i + 1}.png" for i in range(9)]))
    np.testing.assert_allclose(frames.stamps, np.arange(9) * step / 25)
    assert codes(frames.warnings) == ["assumed_rate"]
    assert "25 frames a second" in frames.warnings[0].text


def test_fractions_and_dates_are_times(tmp_path: Path) -> None:
    """Protects names in seconds, and those that cameras give to single shots."""
    frames = media.open_frames(folder(tmp_path / "a", ["0.5.png", "1.png", "1.25.png", "10.0.png"]))
    np.testing.assert_allclose(frames.stamps, [0, 0.5, 0.75, 9.5])
    assert codes(frames.warnings) == ["assumed_rate"]
    shots = [f"IMG_20240517_{t}.jpg" for t in ("115958", "115959", "120001")]
    frames = media.open_frames(folder(tmp_path / "b", shots))
    np.testing.assert_allclose(frames.stamps, [0, 1, 3])
    assert codes(frames.warnings) == ["assumed_rate"]


def test_one_frame_is_a_still(tmp_path: Path) -> None:
    """Protects a folder of a single image."""
    with ClipReader(folder(tmp_path / "f", ["77.png"]), whole_frames()) as reader:
        assert reader.is_still
        assert reader.read().masks["frame"].all()


BROKEN = {
    "empty": b"",
    "text": b"no image",
    "zeros": b"\0" * 3000,
    "cut header": encoded(soft(), "jpg")[:60],
    "cut": encoded(soft(), "jpg")[:-900],
}


@pytest.mark.parametrize("damage", BROKEN)
@pytest.mark.parametrize("at", [0, 5, 11])
def test_a_broken_frame_is_left_out(tmp_path: Path, damage: str, at: int) -> None:
    """Protects the other frames of a clip: one that is broken is left out, counted, and the rest keep their times."""
    path = folder(tmp_path / "f", [f"{i:03d}.jpg" for i in range(12)])
    (path / f"{at:03d}.jpg").write_bytes(BROKEN[damage])
    with ClipReader(path, whole_frames()) as reader:
        assert reader.offered(0, reader.duration).tolist() == [i for i in range(12) if i != at]
        raw = reader.read()
        assert at not in raw.frames["frame"]
        assert raw.masks["frame"].all()
        np.testing.assert_allclose(reader.images.stamps, np.arange(12) / 25)
    (warning,) = [w for w in raw.warnings if w.code == "broken_part"]
    assert "1 of 12 frames" in warning.text
    assert f"{at:03d}.jpg" in warning.text


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif", "gif"])
def test_a_cut_frame_of_any_format_is_left_out(tmp_path: Path, suffix: str) -> None:
    """Protects folders of other formats against half a frame."""
    path = folder(tmp_path / "f", [f"{i}.{suffix}" for i in range(4)])
    data = encoded(soft(), suffix)
    (path / f"2.{suffix}").write_bytes(data[: len(data) // 2])
    frames = media.open_frames(path)
    assert frames.check(0, 3).tolist() == [True, True, False, True]
    assert codes(frames.warnings) == ["broken_part"]


def test_a_folder_of_broken_frames_is_refused(tmp_path: Path) -> None:
    """Protects against a clip of nothing."""
    path = folder(tmp_path / "f", ["0.jpg", "1.jpg"])
    for file in path.iterdir():
        file.write_bytes(b"")
    with pytest.raises(VideoError, match="none of its 2 images") as error:
        media.open_frames(path)
    assert error.value.code == "broken"


def test_hidden_files_are_no_frames(tmp_path: Path) -> None:
    """Protects folders that lay on other systems: their own files are passed over without a word."""
    path = folder(tmp_path / "f", [f"{i}.jpg" for i in range(3)])
    for name in ("._1.jpg", ".hidden.jpg", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (path / name).write_bytes(b"\0\5\x16\7")
    (path / "more.jpg").mkdir()
    frames = media.open_frames(path)
    assert len(frames.stamps) == 3
    assert frames.check(0, 2).all()
    assert not frames.warnings
    for file in path.glob("[0-9].jpg"):
        os.remove(file)
    with pytest.raises(VideoError, match="no images"):
        media.open_frames(path)


def test_frames_of_mixed_sizes_are_fitted_to_the_first(tmp_path: Path) -> None:
    """Protects boxes, which are in pixels of the first frame: the others are scaled, and said so."""
    path = folder(tmp_path / "f", ["0.png", "1.png"], size=(16, 8))
    (path / "2.png").write_bytes(encoded(np.full((16, 32, 3), 200, np.uint8), "png"))
    (path / "3.png").write_bytes(encoded(np.full((32, 8, 3), 200, np.uint8), "png"))
    frames = media.open_frames(path)
    shown = list(frames.frames(range(4)))
    assert {f.shape for f in shown} == {(8, 16, 3)}
    assert shown[2].min() == 200
    assert (shown[3][:, 7:9] == 200).all()
    assert not shown[3][:, :6].any()
    assert codes(frames.warnings) == ["mixed_sizes"]


# --- names -----------------------------------------------------------------------------------------------------------


def test_media_are_known_by_their_endings() -> None:
    """Protects what folders are searched for: what phones and cameras write is among it, each ending in one set."""
    assert {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"} <= IMAGES
    assert {".mp4", ".mov", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv", ".vob", ".wmv"} <= VIDEOS
    assert {".wav", ".mp3", ".opus", ".amr", ".aiff", ".wma", ".oga"} <= AUDIOS
    assert len(MEDIA) == len(IMAGES) + len(VIDEOS) + len(AUDIOS)
    assert all(media.is_image(f"A{s.upper()}") for s in IMAGES)
    assert not media.is_image("a.mp4")
