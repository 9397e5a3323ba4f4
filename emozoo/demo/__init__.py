"""The web page of ``emozoo demo``: upload or record, choose a model, see the prediction over time, take it away.

``service.py`` predicts, ``result.py`` writes predictions as HTML, ``samples.py`` draws the examples, ``page.py`` puts
them on a page with gradio, ``guard.py`` refuses requests that the page does not need. Only these two import gradio.
"""
