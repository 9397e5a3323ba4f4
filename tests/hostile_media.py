"""Media as the wild has them: small real encodes of many kinds, odd ones, and seeded damage to each.

The same seed writes the same bytes: encoders run on one thread and write neither times nor names of their own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT, FRAMES, FPS, RATE = 64, 48, 12, 10, 16000
GOOD, BAD, EITHER = "good", "bad", "either"

# Containers and codecs: file name, video codec, pixel format, audio codec.
VIDEOS = (
    ("h264.mp4", "libx264", "yuv420p", "aac"),
    ("fragments.mp4", "libx264", "yuv420p", "aac"),
    ("h265.mkv", "libx265", "yuv420p", "libopus"),
    ("vp9.webm", "libvpx-vp9", "yuv420p", "libopus"),
    ("mpeg4.avi", "mpeg4", "yuv420p", "libmp3lame"),
    ("mjpeg.mov", "mjpeg", "yuvj420p", "pcm_s16le"),
    ("mpeg2.ts", "mpeg2video", "yuv420p", "mp2"),
)
AUDIOS = (("tone.mp3", "libmp3lame"), ("tone.wav", "pcm_s16le"), ("tone.flac", "flac"), ("tone.m4a", "aac"))
IMAGES = ("still.jpg", "still.png", "still.webp", "moving.gif", "moving.webp")
OPTIONS = {
    "libx264": {"preset": "ultrafast", "threads": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
}
COSTLY = {  # in time or memory
    "bomb.png", "bomb_alpha.png", "bomb_deep.png", "wide8k.mp4", "wide16k.mp4", "photo8k.jpg", "tracks100.mkv",
    "far.mp4", "hole.mkv", "long.wav", "long.gif",
}  # fmt: skip
EXACT = {"fflags": "+bitexact"}


class Case(NamedTuple):
    """A file, and what is certain about it: it holds media that are predicted (good), or it must be refused (bad)."""

    path: Path
    expected: str = EITHER


def corpus(folder: Path, seed: int = 0, count: int | None = None) -> list[Case]:
    """Writes the files into ``folder``: the whole ones, the odd ones, and damaged copies of the whole ones.

    ``count``: at most so many of the damaged ones and of the odd ones together, evenly chosen, none of ``COSTLY``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = [folder / name for name in (*(v[0] for v in VIDEOS), *(a[0] for a in AUDIOS), *IMAGES)]
    for path in whole:
        write_whole(path)
    rng = np.random.default_rng(seed)
    made: list[tuple[str, Callable[[Path], object], str]] = [x for x in ODD if count is None or x[0] not in COSTLY]
    for path in whole:
        made += [(name, content_of(data), expected) for name, data, expected in damaged(path, rng)]
    if count is not None:
        made = [made[i * len(made) // count] for i in range(count)]
    cases = [Case(path, GOOD) for path in whole]
    for name, write, expected in made:
        write(folder / name)
        cases.append(Case(folder / name, expected))
    return cases


def content_of(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


# -- whole files -----------------------------------------------------------------------------------------------------


def image(i: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """RGB (H, W, 3): ramps and a disc that moves with ``i``."""
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    out = np.empty((height, width, 3), np.uint8)
    out[..., 0], out[..., 1], out[..., 2] = x * 255 // width, y * 255 // height, 9 * i % 256
    out[(x - width * (0.3 + 0.03 * i)) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = 220
    return out


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """Float32 samples of a tone whose loudness rises and falls."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * 220 * t) * np.sin(3 * t)).astype(np.float32)


def write_whole(path: Path) -> None:
    """One of ``VIDEOS``, ``AUDIOS`` or ``IMAGES``, by its name."""
    for name, codec, pixels, audio in VIDEOS:
        if name == path.name:
            more = {"movflags": "frag_keyframe+empty_moov"} if "fragments" in name else {}
            return write(path, codec, pixels, audio=audio, container=more)
    for name, codec in AUDIOS:
        if name == path.name:
            return write(path, None, audio=codec)
    frames = [Image.fromarray(image(i)) for i in range(FRAMES if "moving" in path.name else 1)]
    frames[0].save(path, save_all=len(frames) > 1, append_images=frames[1:], duration=100)
    return None


def write(
    path: Path,
    codec: str | None = "libx264",
    pixels: str = "yuv420p",
    *,
    audio: str | None = None,
    times: Sequence[float] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    unit: Fraction = Fraction(1, 1000),
    gop: int = 6,
    rate: int = RATE,
    layout: str = "mono",
    tracks: int = 1,
    container: dict[str, str] | None = None,
    setup: Callable[[Any], object] = lambda stream: None,
) -> None:
    """Images and a tone in one file. ``times``: seconds of the frames; ``setup`` is given each video stream."""
    times = [i / FPS for i in range(FRAMES)] if times is None else times
    with av.open(str(path), "w", container_options={**EXACT, **(container or {})}) as out:
        videos = [
            out.add_stream(codec, rate=FPS, options=OPTIONS.get(codec, {})) for _ in range(tracks if codec else 0)
        ]
        for stream in videos:
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, pixels, gop
            if codec not in ("mpeg4", "mpeg2video"):  # these write steady frames only
                stream.codec_context.time_base = unit
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
            stream.codec_context.thread_count = 1
            setup(stream)
        audios = [out.add_stream(audio, rate=rate, layout=layout) for _ in range(tracks if audio else 0)]
        for stream in audios:
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for stream in videos:
            base = stream.codec_context.time_base or Fraction(1, FPS)
            for i, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(image(i, *size), format="rgb24")
                frame.pts, frame.time_base = round(time / base), base
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        for stream in audios:
            wave = np.repeat(tone(FRAMES / FPS, rate)[None], len(av.AudioLayout(layout).channels), axis=0)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            out.mux(stream.encode(frame))
            out.mux(stream.encode())


# -- damage ----------------------------------------------------------------------------------------------------------


def damaged(path: Path, rng: np.random.Generator) -> Iterator[tuple[str, bytes, str]]:
    """Name, content and what is certain, of damaged copies of a file."""
    data = path.read_bytes()
    stem, suffix = path.stem, path.suffix
    for percent in range(0, 100, 5):
        yield f"{stem}_cut{percent:02d}{suffix}", data[: len(data) * percent // 100], BAD if not percent else EITHER
    for part, (begin, end) in ranges(data).items():
        for bits in (1, 8, 64):
            changed = bytearray(data)
            for at in rng.integers(begin * 8, end * 8, bits).tolist():
                changed[at // 8] ^= 1 << at % 8
            yield f"{stem}_{part}_flip{bits}{suffix}", bytes(changed), EITHER
        middle = int(rng.integers(begin, end))
        length = min(max(4, (end - begin) // 4), end - middle)
        for what, filling in (("zero", bytes(length)), ("ones", b"\xff" * length), ("noise", rng.bytes(length))):
            yield f"{stem}_{part}_{what}{suffix}", data[:middle] + filling + data[middle + length :], EITHER
    a, b = sorted(rng.integers(0, len(data), 2).tolist())
    yield f"{stem}_hole{suffix}", data[:a] + data[b:], EITHER
    yield f"{stem}_twice{suffix}", data[:b] + data[a:], EITHER
    yield f"{stem}_tail{suffix}", data + rng.bytes(500), EITHER
    yield f"{stem}_head{suffix}", rng.bytes(64) + data, EITHER
    wrong = ".mp4" if suffix in (".jpg", ".png", ".gif", ".webp") else ".jpg"
    yield f"{stem}_{suffix[1:]}_named{wrong}", data, EITHER


def ranges(data: bytes) -> dict[str, tuple[int, int]]:
    """Begin and end, in bytes, of the header, the index and the data of a file; where an index is, its mark tells."""
    marks = (b"moov", b"idx1", b"\x1c\x53\xbb\x6b", b"IDAT")
    index = next((at for mark in marks if (at := data.rfind(mark)) > 0), len(data) * 9 // 10)
    return {
        "header": (0, max(8, min(len(data) // 8, 512))),
        "index": (index, min(index + max(8, len(data) // 8), len(data))),
        "data": (len(data) // 4, len(data) * 7 // 8),
    }


# -- odd files -------------------------------------------------------------------------------------------------------


def changed(path: Path, write_it: Callable[[Path], object], change: Callable[[bytes], bytes]) -> None:
    """Writes a file and changes its bytes."""
    write_it(path)
    path.write_bytes(change(path.read_bytes()))


def png(path: Path, width: int, height: int, depth: int, color: int, pixels: bytes) -> None:
    """A PNG of these bytes of pixels, whatever its header announces."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)),
        (b"IDAT", pixels),
        (b"IEND", b""),
    )
    out = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(out))


def bomb(path: Path, size: tuple[int, int] = (16384, 12288), depth: int = 1, color: int = 0) -> None:
    """A PNG of few bytes, all black or transparent, with as many pixels as are read at most."""
    packer = zlib.compressobj(1)
    bits = depth * {0: 1, 2: 3, 6: 4}[color]
    row = bytes(1 + size[0] * bits // 8)
    pixels = b"".join(packer.compress(row) for _ in range(size[1])) + packer.flush()
    png(path, *size, depth, color, pixels)


def still(path: Path, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any) -> None:
    Image.fromarray(image(0, *size)).convert(mode).save(path, **options)


def turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    still(path, exif=exif)


def deep_png(path: Path) -> None:
    Image.fromarray(image()[..., 0].astype(np.uint16) * 257).save(path)


def animation(path: Path, count: int, duration: int) -> None:
    frames = [Image.fromarray(image(i % 40, 16, 12)) for i in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration)


def hdr(stream: Any) -> None:
    """Colors of HDR10: BT.2020 with the PQ curve."""
    context = stream.codec_context
    context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9


def silent_wav(path: Path, rate: int, samples: int, channels: int = 1) -> None:
    size = 2 * channels * samples
    form = struct.pack("<HHIIHH", 1, channels, rate, min(2 * channels * rate, 2**32 - 1), 2 * channels, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data")
    with path.open("ab") as file:
        file.write(struct.pack("<I", size) + bytes(size))


def steady(count: int, step: float, start: float = 0.0) -> list[float]:
    return [start + i * step for i in range(count)]


def video(**options: Any) -> Callable[[Path], object]:
    return lambda path: write(path, **options)


def _patched(old: bytes, new: bytes, **options: Any) -> Callable[[Path], object]:
    return lambda path: changed(path, video(**options), lambda data: data.replace(old, new))


def _durations_gone(data: bytes) -> bytes:
    """An MP4 whose headers announce a length of 0."""
    for mark, at in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        begin = 0
        while (begin := data.find(mark, begin) + 4) > 3:
            data = data[: begin + at - 4] + bytes(4) + data[begin + at :]
    return data


def hole(path: Path, seconds: int = 900) -> None:
    """An image and a second of audio, and the same again so much later, in a file that announces no length."""
    with av.open(str(path), "w", container_options={**EXACT, "live": "1"}) as out:
        images = out.add_stream("libx264", rate=FPS, options=OPTIONS["libx264"])
        images.width, images.height, images.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        images.codec_context.time_base = Fraction(1, 1000)
        audio = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for time in (0, seconds):
            frame = av.VideoFrame.from_ndarray(image(), format="rgb24")
            frame.pts, frame.time_base = time * 1000, Fraction(1, 1000)
            out.mux(images.encode(frame))
            heard = av.AudioFrame.from_ndarray(tone(1.0)[None], format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = RATE, time * RATE, Fraction(1, RATE)
            out.mux(audio.encode(heard))
        out.mux(images.encode())
        out.mux(audio.encode())


def _text(text: str) -> Callable[[Path], object]:
    return content_of(text.encode())


_AUDIO = {"codec": None, "audio": "pcm_s16le"}
ODD: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    # nothing of it is media
    ("empty.mp4", content_of(b""), BAD),
    ("empty.png", content_of(b""), BAD),
    ("empty.wav", content_of(b""), BAD),
    ("text.mp4", _text("This is a letter, not a film.\n" * 40), BAD),
    ("text.jpg", _text("This is a letter, not a photo.\n" * 40), BAD),
    ("text.mp3", _text("This is a letter, not a song.\n" * 40), BAD),
    ("page.mp4", _text("<!DOCTYPE html><html><body>404 Not Found</body></html>"), BAD),
    ("zeros.mkv", content_of(bytes(5000)), BAD),
    ("zeros.png", content_of(bytes(5000)), BAD),
    ("noise.avi", content_of(np.random.default_rng(1).bytes(5000)), BAD),
    ("noise.gif", content_of(b"GIF89a" + np.random.default_rng(2).bytes(500)), EITHER),
    ("archive.mov", content_of(b"PK\x03\x04" + bytes(200)), BAD),
    ("one_byte.webm", content_of(b"\x1a"), BAD),
    ("only_ftyp.mp4", content_of(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"), BAD),
    # files that name other files: none of them is opened
    ("concat.mp4", _text("ffconcat version 1.0\nfile h264.mp4\n"), BAD),
    ("playlist.mp4", _text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nmpeg2.ts\n#EXT-X-ENDLIST\n"), BAD),
    ("playlist.ts", _text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nmpeg2.ts\n#EXT-X-ENDLIST\n"), BAD),
    ("session.mp4", _text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"), BAD),
    # streams that are missing, many, or of no known codec
    ("mute.mp4", video(), GOOD),
    ("audio_only.mp4", video(codec=None, audio="aac"), GOOD),
    ("audio_only.mkv", video(**_AUDIO), GOOD),
    ("unknown_codec.mp4", _patched(b"avc1", b"zzzz"), BAD),
    ("tracks100.mkv", video(audio="pcm_s16le", tracks=50), GOOD),
    ("audio100.mkv", video(codec=None, audio="pcm_s16le", tracks=100), GOOD),
    # sizes
    ("one_frame.mp4", video(times=[0.0]), GOOD),
    ("one_frame.mkv", video(times=[0.0], audio="pcm_s16le"), GOOD),
    ("odd.mp4", video(codec="mpeg4", size=(63, 47)), GOOD),
    ("odd444.mkv", video(pixels="yuv444p", size=(61, 37)), GOOD),
    ("tiny.mkv", video(codec="ffv1", pixels="bgr0", size=(1, 1)), GOOD),
    ("tiny2.mp4", video(size=(2, 2)), GOOD),
    ("tiny.png", lambda p: still(p, size=(1, 1)), GOOD),
    ("line.png", lambda p: still(p, size=(2000, 1)), GOOD),
    ("column.jpg", lambda p: still(p, size=(1, 2000)), GOOD),
    ("line.mkv", video(codec="ffv1", pixels="bgr0", size=(2000, 2)), GOOD),
    ("wide8k.mp4", video(times=steady(2, 0.1), size=(7680, 4320)), GOOD),
    ("photo8k.jpg", lambda p: still(p, size=(7680, 4320)), GOOD),
    ("claims_much.png", lambda p: png(p, 10**5, 10**5, 8, 2, zlib.compress(bytes(99))), BAD),
    ("claims_some.png", lambda p: png(p, 12000, 12000, 8, 2, zlib.compress(bytes(99))), BAD),
    ("bomb.png", bomb, GOOD),
    ("bomb_alpha.png", lambda p: bomb(p, (13312, 13312), 8, 6), GOOD),
    ("bomb_deep.png", lambda p: bomb(p, (8192, 12288), 16), GOOD),
    ("wide16k.mp4", video(times=[0.0], size=(16384, 8192)), GOOD),
    ("claims_much.jpg", lambda p: changed(p, still, _jpeg_size), EITHER),
    ("claims_much.gif", lambda p: changed(p, still, lambda d: d[:6] + b"\xff\xff\xff\xff" + d[10:]), EITHER),
    ("claims_much.bmp", lambda p: changed(p, still, lambda d: d[:18] + struct.pack("<ii", 9**5, 9**5) + d[26:]), BAD),
    ("negative.bmp", lambda p: changed(p, still, lambda d: d[:18] + struct.pack("<ii", -64, -48) + d[26:]), EITHER),
    ("claims_much.avi", lambda p: changed(p, video(codec="rawvideo", pixels="bgr24"), _avi_size), EITHER),
    # clocks
    ("variable.mkv", video(times=[0, 0.01, 0.02, 0.5, 0.51, 3.0, 3.04], audio="pcm_s16le"), GOOD),
    ("rate_million.mkv", video(times=steady(30, 1e-6), unit=Fraction(1, 1000000)), EITHER),
    ("rate_tiny.mkv", video(times=steady(6, 1000.0)), GOOD),
    ("rate_240.mp4", video(times=steady(60, 1 / 240), unit=Fraction(1, 240)), GOOD),
    ("negative.mkv", video(times=steady(12, 0.1, -1.0), container={"avoid_negative_ts": "disabled"}), GOOD),
    ("negative.mp4", video(times=steady(12, 0.1, -1.0), container={"avoid_negative_ts": "disabled"}), GOOD),
    ("epoch.mkv", video(times=steady(12, 0.1, 1.7e9)), GOOD),
    ("jumps.mkv", video(times=[*steady(6, 0.1), *steady(6, 0.1, 1e6)]), GOOD),
    ("far.mp4", video(times=[0.0, 1e4]), GOOD),
    ("years.mkv", video(times=[0.0, 1e9]), BAD),
    ("hole.mkv", hole, GOOD),
    ("no_durations.mp4", lambda p: changed(p, video(audio="aac"), _durations_gone), EITHER),
    ("live.mkv", video(container={"live": "1"}, audio="pcm_s16le"), GOOD),
    ("long_gop.mp4", video(times=steady(400, 0.04), gop=10000, size=(32, 32)), GOOD),
    ("raw.m2v", video(codec="mpeg2video"), GOOD),
    # pixels
    ("turned90.mp4", video(setup=lambda s: s.set_display_rotation(90)), GOOD),
    ("turned7.mp4", video(setup=lambda s: s.set_display_rotation(7.3)), GOOD),
    ("turned6.jpg", lambda p: turned(p, 6), GOOD),
    ("turned99.jpg", lambda p: turned(p, 99), GOOD),
    ("ten_bit.mp4", video(pixels="yuv420p10le"), GOOD),
    ("ten_bit422.mkv", video(pixels="yuv422p10le"), GOOD),
    ("yuv422.mp4", video(pixels="yuv422p"), GOOD),
    ("prores.mov", video(codec="prores_ks", pixels="yuv422p10le"), GOOD),
    ("prores4444.mov", video(codec="prores_ks", pixels="yuva444p10le"), GOOD),
    ("hdr.mkv", video(codec="libx265", pixels="yuv420p10le", setup=hdr), GOOD),
    ("alpha.webm", video(codec="libvpx-vp9", pixels="yuva420p"), GOOD),
    ("alpha.mov", video(codec="qtrle", pixels="argb"), GOOD),
    ("alpha.png", lambda p: still(p, "RGBA"), GOOD),
    ("grey_alpha.png", lambda p: still(p, "LA"), GOOD),
    ("inks.jpg", lambda p: still(p, "CMYK"), GOOD),
    ("grey.jpg", lambda p: still(p, "L"), GOOD),
    ("palette.png", lambda p: still(p, "P"), GOOD),
    ("bits.png", lambda p: still(p, "1"), GOOD),
    ("deep.png", deep_png, GOOD),
    ("page.tiff", still, GOOD),
    ("still.bmp", still, GOOD),
    ("still.avif", still, GOOD),
    ("stretched.mp4", video(setup=lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(900, 1))), GOOD),
    # animations
    ("fast.gif", lambda p: animation(p, 20, 0), GOOD),
    ("long.gif", lambda p: animation(p, 1000, 10), GOOD),
    ("frames.apng", lambda p: animation(p, 8, 50), GOOD),
    # audio
    ("eight_channels.wav", lambda p: silent_wav(p, 16000, 8000, 8), GOOD),
    ("rate192k.wav", video(**_AUDIO, rate=192000), GOOD),
    ("rate1.wav", lambda p: silent_wav(p, 1, 50), EITHER),
    ("rate_absurd.wav", lambda p: silent_wav(p, 2**32 - 1, 50), EITHER),
    ("channels_absurd.wav", lambda p: silent_wav(p, 16000, 2, 20000), EITHER),
    ("no_samples.wav", lambda p: silent_wav(p, 16000, 0), BAD),
    ("one_sample.wav", lambda p: silent_wav(p, 16000, 1), EITHER),
    ("long.wav", lambda p: silent_wav(p, 200, 200 * 605), GOOD),
)  # fmt: skip


def _jpeg_size(data: bytes) -> bytes:
    """A JPEG that announces 65500 x 65500 pixels."""
    at = data.find(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 65500, 65500) + data[at + 4 :]


def _avi_size(data: bytes) -> bytes:
    """An AVI that announces 30000 x 30000 pixels."""
    at = data.find(b"strf") + 12
    return data[:at] + struct.pack("<ii", 30000, 30000) + data[at + 8 :]
