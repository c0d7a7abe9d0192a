"""Widgets for the notebooks: thin controls over pure functions that draw. Needs ipywidgets 7 or 8."""

from __future__ import annotations

import html
import io

from matplotlib.figure import Figure

from .plot import contact_sheet
from .trace import Trace

LITTLE = {"a", "an", "the", "of", "on", "in", "at", "by", "and", "with", "photograph", "picture"}


def draw_answer(trace: Trace, image, text: str) -> Figure:
    """The image and one panel per word of `text`, little words left out unless there is nothing else.

    A pure function of a recording: no image is generated again. Raises ValueError for a text that cannot
    be read, as `Trace.maps` does.
    """
    maps = trace.maps(text).share
    telling = [word for word in maps.words if word.lower() not in LITTLE] or list(maps.words)
    return contact_sheet(image, {word: maps[word] for word in telling}, label="share of attention", columns=5)


def ask_box(trace: Trace, image, text: str = "a photograph of a kitten"):
    """A text box over a recording: type a text, press Enter, see where its words are.

        ask_box(trace, image)

    A text that cannot be read is answered with the sentence that says why, and the last picture stays.
    """
    import ipywidgets

    box = ipywidgets.Text(value=text, description="ask for", continuous_update=False)
    # At its own size: a box stretches its children over the whole width.
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start", "max_width": "100%"})
    message = ipywidgets.HTML()

    def answer(*_) -> None:
        try:
            figure = draw_answer(trace, image, box.value)
        except ValueError as error:
            message.value = f"<b>{html.escape(str(error))}</b>"
            return
        png = io.BytesIO()
        figure.savefig(png, format="png")
        picture.value, message.value = png.getvalue(), ""

    box.observe(answer, "value")
    answer()
    return ipywidgets.VBox([box, message, picture])
