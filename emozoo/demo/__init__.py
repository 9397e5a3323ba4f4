"""The web page of ``emozoo demo``: upload or record, choose a model, see the prediction over time, take it away.

``service.py`` predicts, ``result.py`` writes what it says as HTML, ``samples.py`` draws the examples, ``page.py`` puts
them on a page with gradio, ``guard.py`` refuses what nobody should ask of it. Only these two import gradio.
"""
