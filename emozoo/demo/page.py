"""The page itself: gradio's components around the service, its queue, its HTTP interface, and the server.

gradio reads its settings when it is imported, so this module is imported by :func:`emozoo.commands.demo.demo` alone.
"""

from __future__ import annotations

import logging
import signal
import webbrowser
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from emozoo.data.find import one_line
from emozoo.data.manifest import MEDIA
from emozoo.demo import guard, result
from emozoo.demo.samples import FILES, MODELS
from emozoo.demo.service import MAX_MB, MAX_SECONDS, MAX_WAITING, Progress, Service, model_choices
from emozoo.errors import EmozooError, UsageError
from emozoo.interrupt import until_interrupted
from emozoo.registry import resolve

QUEUE = "model"  # events with this id wait for each other
SWEEP_SECONDS = 300  # between looks for what is old enough to be removed
END_SECONDS = 1  # for which a server that ends waits for pages that are open
LOOPBACK = ("127.0.0.1", "localhost", "::1")
INTRODUCTION = """
<div class="ez-title"><h1>emozoo</h1>
<p>Emotion recognition from video, images and voice. Files stay on the machine that runs this page.</p></div>
"""
HINT = (
    f"Choose a file, or record one, and press Predict. Files up to {MAX_MB} MB; video and audio up to "
    f"{MAX_SECONDS / 60:g} minutes"
)

_log = logging.getLogger(__name__)


def build(service: Service, model: str) -> gr.Blocks:
    """The page. ``model``: the weights that are chosen at first."""

    def told(progress: gr.Progress) -> Progress:
        return lambda fraction, what: progress(fraction, desc=what)

    def show(file: str | None, name: str, request: gr.Request, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        if not file:
            return result.message("there is no file yet: choose or record one first")
        try:
            return result.result(service.results(request.session_hash or "", Path(file), name, told(progress)))
        except EmozooError as error:
            return result.message(str(error))
        except Exception as error:
            return result.message(_bug(error))

    def answer(file: str | None, name: str, progress: gr.Progress = gr.Progress()) -> dict[str, Any]:  # noqa: B008
        if not file:
            raise gr.Error("there is no file: upload one first, and send its path", print_exception=False)
        try:
            prediction = service.predict(Path(file), name, told(progress))
            prediction.file = Path(file).name
            return prediction.to_dict()
        except EmozooError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:
            raise gr.Error(_bug(error), print_exception=False) from error

    def closed(request: gr.Request) -> None:
        service.close(request.session_hash or "")

    def chosen(name: str) -> tuple[str, Any]:
        """A sample, and a model that can predict it where the usual ones cannot."""
        needed = MODELS.get(name)
        found = resolve(needed)[1] if needed else None
        return str(service.sample(name)), found.name if found else gr.skip()

    with gr.Blocks(title="emozoo", analytics_enabled=False) as page:
        gr.HTML(INTRODUCTION, js_on_load=None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                models = gr.Dropdown(
                    model_choices(model), value=model, label="Model", elem_id="model", filterable=False
                )
                with gr.Tabs():
                    sources: list[tuple[gr.components.Component, gr.Button]] = []
                    for tab, component in _sources().items():
                        with gr.Tab(tab):
                            component.render()
                            sources.append((component, gr.Button("Predict", variant="primary")))
                            if component is sources[0][0]:
                                gr.HTML('<p class="ez-help">Or choose a drawn example:</p>', js_on_load=None)
                                with gr.Row(elem_classes="ez-examples"):
                                    examples = [gr.Button(name, size="sm", min_width=80) for name in FILES]
            with gr.Column(scale=3, min_width=320):
                shown = gr.HTML(
                    result.message(HINT, "hint"), elem_id="result", min_height=120,
                    js_on_load=(Path(__file__).parent / "timeline.js").read_text(encoding="utf-8"),
                )  # fmt: skip
        card = gr.HTML(result.card(model), elem_id="card", js_on_load=None)
        record = gr.JSON(visible=False)

        for component, button in sources:
            button.click(
                show, [component, models], shown, concurrency_id=QUEUE, concurrency_limit=1, api_visibility="private",
                scroll_to_output=True,
            )  # fmt: skip
        upload = sources[0][0]
        gr.Button(visible=False).click(
            answer, [upload, models], record, concurrency_id=QUEUE, concurrency_limit=1, api_name="predict"
        )
        for name, button in zip(FILES, examples, strict=True):
            button.click(partial(chosen, name), None, [upload, models], api_visibility="private")
        models.change(result.card, models, card, api_visibility="private", show_progress="hidden")
        page.unload(closed)
    page.queue(max_size=MAX_WAITING)
    return page


def _sources() -> dict[str, gr.components.Component]:
    """By the name of a tab: where a file comes from."""
    # Mirroring would need ffmpeg's program; more pixels than these would only take longer.
    camera = gr.WebcamOptions(mirror=False, constraints={"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}})
    found: dict[str, gr.components.Component] = {
        "File": gr.File(
            label="Video, image or audio", file_types=["video", "image", "audio", *sorted(MEDIA)], height=150,
            elem_id="file", render=False,
        ),
        "Film": gr.Video(
            label="Film yourself", sources=["webcam"], include_audio=True, webcam_options=camera, render=False
        ),
        "Photo": gr.Image(
            label="Take a photo", sources=["webcam"], type="filepath", image_mode=None, webcam_options=camera,
            render=False,
        ),
        "Voice": gr.Audio(label="Record your voice", sources=["microphone"], type="filepath", render=False),
    }  # fmt: skip
    for component in found.values():
        vars(component)["async_move_resource_to_block_cache"] = _no_addresses(
            component.async_move_resource_to_block_cache
        )
    return found


def _no_addresses(move: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """Files are sent, not fetched: gradio would download an address that stands in place of a path."""

    async def only_files(path: Any) -> Any:
        if "://" in str(path):
            raise gr.Error("send the file itself: addresses are not fetched", print_exception=False)
        return await move(path)

    return only_files


def _bug(error: Exception) -> str:
    _log.debug("the page: unexpected exception", exc_info=error)
    return f"this file met a fault of the program ({type(error).__name__}: {one_line(str(error))})"


def serve(folder: Path, model: str, device: str | None, host: str, port: int | None, browser: bool) -> None:
    """Serves the page until SIGINT or SIGTERM; prints its address. Raises UsageError for an address that is taken.

    ``folder``: where everything that is sent and written lies.
    """
    guard.install(folder)
    service = Service(folder, device)
    page = build(service, model)
    local = host in LOOPBACK
    font = [gr.themes.Font(n) for n in ("system-ui", "sans-serif")]
    mono = [gr.themes.Font(n) for n in ("ui-monospace", "monospace")]
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False,
            pwa=False, mcp_server=False, run_history=False, enable_monitoring=False, footer_links=[],
            max_file_size=f"{MAX_MB}mb", theme=gr.themes.Base(font=font, font_mono=mono),
            css_paths=Path(__file__).parent / "page.css",
            app_kwargs={"middleware": [Middleware(guard.LocalOnly, hosts=LOOPBACK if local else ())]},
        )  # fmt: skip
    except OSError as error:
        raise UsageError(
            f"port {port or '7860 to 7959'} of {host} cannot be used: choose another with --port"
        ) from error
    with until_interrupted(signal.SIGINT, signal.SIGTERM) as stopped:
        print(f"emozoo demo: {address} (Ctrl-C ends it)", flush=True)
        if not local:
            print(f"Whoever reaches {host} can use this page: it asks for no password.", flush=True)
        if browser:
            webbrowser.open(address)
        while not stopped.wait(SWEEP_SECONDS):
            service.sweep()
        service.end()
        page.server.config.timeout_graceful_shutdown = END_SECONDS
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it would list the pages that it then cuts off
        page.close(verbose=False)
