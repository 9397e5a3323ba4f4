"""What all tests share: where real material lies, and small media files made on the spot."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soak_table
from faults import Warm

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs a network; those of the hub have a server of their own

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests run last, the shortest first: a night that is cut off has learned as much as it could."""
    marks = {item: item.get_closest_marker("slow") or item.get_closest_marker("soak") for item in items}
    items.sort(key=lambda item: mark.args[0] if (mark := marks[item]) else 0)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """No test reaches another machine: connections and questions for names are refused, but for this machine's own.

    Processes that tests start are not held; their hub is offline, or a server of the test's.
    """
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse_others(host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if host is not None and name not in ("", "localhost", "::1", "0.0.0.0") and not name.startswith("127."):
            raise OSError(f"a test asked for {name}: tests use no network")

    def guarded(real: Callable[..., object]) -> Callable[..., object]:
        def call(self: socket.socket, address: object) -> object:
            if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
                refuse_others(address[0])
            return real(self, address)

        return call

    def getaddrinfo(host: object, *args: object, **more: object) -> object:
        refuse_others(host)
        return resolve(host, *args, **more)  # type: ignore[arg-type]

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded(connect))
    patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs commands of emozoo in processes of their own that have imported torch already."""
    process = Warm(tmp_path_factory.mktemp("warm"))
    yield process
    process.close()


@pytest.fixture
def tally() -> Iterator[Callable[[str, int], soak_table.Tally]]:
    """Opens a row of the table of long runs: its part and seed. Written when the test ends, however it ends."""
    opened: list[soak_table.Tally] = []

    def start(part: str, seed: int = 0) -> soak_table.Tally:
        opened.append(soak_table.Tally(part, seed))
        return opened[-1]

    yield start
    for one in opened:
        soak_table.write(one)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real material (``EMOZOO_SHARED``, else ``../shared`` beside the repository); skips without it."""
    folder = Path(os.environ.get("EMOZOO_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real material at {folder}: set EMOZOO_SHARED to the folder that holds data/")
    return folder


@pytest.fixture(scope="session")
def yunet(shared: Path) -> Path:
    """OpenCV's file of the face detector yunet; skips where the real material lacks it."""
    file = next((shared / "data" / "weights").glob("face_detection_yunet*.onnx"), None)
    if file is None:
        pytest.skip(f"no face_detection_yunet*.onnx in {shared / 'data' / 'weights'}")
    return file


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket of a server on this machine that speaks the protocol of object storage."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"), ("AWS_ACCESS_KEY_ID", "nobody"),
        ("AWS_SECRET_ACCESS_KEY", "nothing"), ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="zoo")
    yield "s3://zoo"
    server.stop()


@pytest.fixture(scope="session")
def golden_values() -> Path:
    """The folder of reference values: what public code computes from drawn weights and inputs, and exact arithmetic."""
    return REPOSITORY / "tests" / "golden"


@pytest.fixture(scope="session")
def make_images(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Writes two class folders, calm and angry, of that many images each, which differ in brightness."""

    def make(count: int) -> Path:
        root = tmp_path_factory.mktemp("pictures")
        rng = np.random.default_rng(0)
        for name, level in (("calm", 40), ("angry", 170)):
            (root / name).mkdir()
            for i in range(count):
                image = rng.normal(level, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8)
                cv2.imwrite(str(root / name / f"{i}.png"), image)
        return root

    return make


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """Writes a small MPEG-4 file whose frame i is grey ``4 i``, with a click of audio at each time of ``clicks``."""

    def make(
        path: Path, *, frames: int = 50, fps: int = 25, size: tuple[int, int] = (64, 48), clicks: tuple[float, ...] = ()
    ) -> Path:
        with av.open(str(path), "w") as box:
            video = box.add_stream("mpeg4", rate=fps)
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            audio = box.add_stream("pcm_s16le", rate=16000, layout="mono") if clicks else None
            for i in range(frames):
                image = np.full((size[1], size[0], 3), min(4 * i, 255), dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, fps)
                box.mux(video.encode(frame))
            box.mux(video.encode())
            if audio is not None:
                samples = np.zeros((1, 16000 * frames // fps), dtype=np.int16)
                for time in clicks:
                    samples[0, int(time * 16000) : int(time * 16000) + 160] = 16000
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16000, 0
                box.mux(audio.encode(frame))
                box.mux(audio.encode())
        return path

    return make
