"""``emozoo demo``: the web page."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Annotated

import typer

from emozoo.commands.shared import DEVICE_HELP, check_name
from emozoo.errors import UsageError


def demo(
    model: Annotated[str, typer.Option(help="The model that is chosen at first: a name or a folder.")] = "ceflnet",
    host: Annotated[
        str, typer.Option(help="Address to serve on; 0.0.0.0 lets everybody in who reaches this machine.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; default: the first free one from 7860 on.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
) -> None:
    """Web page: upload or record video, images and audio, choose a model, see and take away what it predicts.

    Nothing leaves this machine. Needs the extra: pip install "emozoo[demo]".

    Example: emozoo demo --model ceflnet
    """
    if find_spec("gradio") is None:
        raise UsageError('the web page needs gradio, which is not installed: pip install "emozoo[demo]"')
    check_name(model)
    from emozoo.demo.service import temporary_folder

    with temporary_folder() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)  # where gradio puts what is uploaded
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from emozoo.demo.page import serve
        from emozoo.registry import resolve
        from emozoo.weights import source_of

        if source_of(model) is None and (entry := resolve(model)[1]) is not None:
            model = entry.name
        serve(folder, model, device, host, port, browser)
