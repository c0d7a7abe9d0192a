"""Junk at every public door: a right answer, or an error that the package itself raised and put into words.

Each argument in turn of an otherwise right call is replaced, by a list of what people get wrong and by values
that hypothesis makes up. Nothing may hang, answer with NaN, or end in the traceback of a library.
"""

import ast
import faulthandler
import signal
import traceback
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import generate, sd_pipeline, word_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import ovamnb as ov
from ovamnb.crf import load_crf
from ovamnb.maps import AttentionMaps
from ovamnb.plot.ask_places import draw_places
from ovamnb.plot.figures import new_figure
from ovamnb.plot.widgets import draw_answer, draw_rows, draw_segmentation
from ovamnb.plumbing.asked import RankedWords
from ovamnb.recipe import SegmentRecipe
from ovamnb.segmentation import Segmentation

PACKAGE = Path(ov.__file__).parent
ERRORS = (ValueError, TypeError, KeyError, IndexError, OSError, FloatingPointError)
SECONDS = 20.0  # for one call, on a core however busy; a right one takes a tenth of one

JUNK = [
    *(None, "", "cat", "32", "🐱", b"cat", object(), ..., True),
    *(0, -1, 7, 10**12, 10**400, 0.5, 1e30, -1e30, float("nan"), float("inf")),
    *([], (), {}, [None], ["cat", 3], (0, 0), (3.7, 4.2), (32,), [[1.0], [1.0, 2.0]], {"1": 1.0}, {3: "cat"}),
    *(torch.tensor(3), torch.zeros(0), torch.zeros(2, 3, 4, 5), torch.full((8, 12), torch.nan)),
    *(torch.ones(8, 12, dtype=torch.int64), torch.full((96, 96), torch.inf), torch.ones(8, 12) * 1j),
    *(np.zeros(3), np.float32(2.0), np.full((8, 12), np.nan), np.array([["a", "b"]]), np.ones((3, 16, 24))),
    Image.new("L", (2, 2)),
]
MADE = st.one_of(
    st.floats(width=32),
    st.integers(-3, 12),
    st.text("act 32{}.,~é🐱", max_size=6),
    st.lists(st.integers(-2, 16) | st.floats(width=16) | st.text("at", max_size=3), max_size=4),
    st.tuples(st.integers(-1, 40), st.integers(-1, 40)),
    st.dictionaries(st.integers(0, 4) | st.text("12", max_size=1), st.floats(-1, 2), max_size=3),
)


def predicted(name, said, expects):
    with ov.predict(name, said, expects) as answer:
        answer(2)


def doors(folder, pipe):
    """Every public function with a right call on tiny inputs: name → (function, its arguments)."""
    with ov.record(pipe, self_attention=(12, 6), dtype=torch.float32) as trace:
        generate(pipe, height=16, width=24)
    token = ov.Token("cat", torch.linspace(-1, 1, 16), torch.zeros(1, 16))
    y, x = np.mgrid[:16, :24]
    image = np.stack([10 * y, 10 * x, 5 * (x + y)], axis=-1).astype(np.uint8)
    mask = torch.zeros(16, 24, dtype=torch.bool)
    mask[4:12, 2:12] = True
    heat, affinity = trace.maps("a cat")["cat"], trace.self_attention(12)
    trace.save(folder / "trace.safetensors")
    token.save(folder / "token.safetensors")
    ov.save_mask(mask, folder / "mask.png")
    ax = new_figure(2, 2).subplots()
    states = pipe.encode_prompt("a cat", "cpu", 1, False)[0]

    def record(**options):
        with ov.record(**options) as found, torch.no_grad():
            pipe.unet(torch.zeros(1, 4, 8, 12), 10, encoder_hidden_states=states)
        return found

    asked = {"image": 0, "queries": None, "blocks": None, "steps": None, "softmax": True}
    all_ = {
        "complete": (ov.complete, {"heat": heat, "affinity": affinity, "power": 1}),
        "weigh": (ov.weigh, {"heat": heat, "affinity": affinity, "floor": 0.9}),
        "resize": (ov.resize, {"heat": heat, "image_or_size": (16, 24)}),
        "binarize": (ov.binarize, {"heat": heat, "threshold": 0.4}),
        "polygon_mask": (ov.polygon_mask, {"size": (16, 24), "corners": [(2, 2), (20, 2), (2, 14)]}),
        "save_mask": (ov.save_mask, {"mask": mask, "path": folder / "new.png"}),
        "load_mask": (ov.load_mask, {"path": folder / "mask.png"}),
        "Token": (ov.Token, {"word": "cat", "class_": token.class_, "background": token.background}),
        "Token.save": (token.save, {"path": folder / "new.safetensors"}),
        "Token.load": (ov.Token.load, {"path": folder / "token.safetensors", "word": None}),
        "save_tokens": (ov.save_tokens, {"tokens": [token], "path": folder / "new.safetensors"}),
        "load_tokens": (ov.load_tokens, {"path": folder / "token.safetensors"}),
        "Trace.maps": (trace.maps, {"text": "a cat", **asked}),
        "Trace.words_at": (
            trace.words_at,
            {"place": (4, 8), "vocabulary": ["cat", "dog"], "image": 0, "queries": None, "blocks": None}
            | {"steps": None, "together": True, "contrast": True, "template": "a {}", "count": 2},
        ),
        "Trace.self_attention": (trace.self_attention, {"resolution": 12, "image": 0}),
        "Trace.save": (trace.save, {"path": folder / "new.safetensors", "text_encoder": False}),
        "Trace.load": (ov.Trace.load, {"path": folder / "trace.safetensors", "pipe": None}),
        "AttentionMaps[]": (lambda word: trace.maps("a cat")[word], {"word": "cat"}),
        "record": (
            record,
            {"pipe": pipe, "queries": "conditional", "self_attention": (12,), "steps": None, "blocks": None}
            | {"device": "cpu", "dtype": torch.float32, "guidance": None},
        ),
        "record_image": (
            ov.record_image,
            {"pipe": pipe, "image": image, "prompt": "a cat", "timesteps": 100, "samples": 1, "seed": 0}
            | {"size": (16, 24), "dtype": torch.float32},
        ),
        "invert": (
            ov.invert,
            {"pipe": pipe, "image": image, "prompt": "a cat", "steps": 2, "size": (16, 24)},
        ),
        "Trace.to": (trace.to, {"device": "cpu"}),
        "setup_notebook": (ov.setup_notebook, {"model": "bundled"}),
        "predict": (predicted, {"name": "07.6", "said": 2, "expects": (1, 2, 5)}),
        "check": (ov.check, {"name": "07.a", "answer": lambda labels, truth, label: 0.5}),
        "progress": (ov.progress, {"forget": False}),
        "segment": (
            ov.segment,
            {"pipe": pipe, "image": image, "classes": ["cat"], "caption": "", "keep": None, "crf": False}
            | {"recipe": None, "seed": 0, "batch": 8, "weights": {1: 1.0}, "template": "a {}"}
            | {"background": 0.4, "blocks": None, "size": (16, 24)},
        ),
        "optimize_token": (
            ov.optimize_token,
            {"traces": trace, "masks": mask, "init": "cat", "word": None, "recipe": "fast", "image": 0}
            | {"queries": None, "blocks": None, "held_out": None, "patience": 2, "watch": None}
            | {"evaluations": 2, "learning_rate": 1.0},
        ),
        "SegmentRecipe": (SegmentRecipe, vars(SegmentRecipe())),
        "TokenRecipe": (ov.TokenRecipe, vars(ov.TokenRecipe())),
        "load_pipeline": (ov.load_pipeline, {"name": "nothing like it", "device": "cpu", "dtype": None}),
        "show": (
            ov.show,
            {"image": image, "mask_or_heat": heat, "ax": ax, "title": "a", "label": "b", "vmax": None},
        ),
        "overlay": (
            ov.overlay,
            {"ax": ax, "image": image, "heat": heat, "alpha": 0.5, "vmax": None, "cmap": "gray"},
        ),
        "show_labels": (
            ov.show_labels,
            {"image": image, "labels": mask.long(), "classes": ["cat"], "ax": ax, "title": "a"},
        ),
        "contact_sheet": (
            ov.contact_sheet,
            {
                "image": image,
                "heats": {"cat": heat},
                "label": "a",
                "columns": 2,
                "vmax": None,
                "cmap": "gray",
            },
        ),
        "draw_answer": (draw_answer, {"trace": trace, "image": image, "text": "a cat"}),
        "draw_places": (
            draw_places,
            {"trace": trace, "image": image, "places": [(4, 8)], "vocabulary": ["cat"], "count": 1}
            | {"template": "a {}"},
        ),
        "draw_rows": (draw_rows, {"affinity": affinity, "image": image, "places": [(1, 2)]}),
        "draw_segmentation": (draw_segmentation, {"pipe": pipe, "image": image, "names": "cat"}),
    }
    try:
        load_crf()
    except ImportError:
        return all_
    probabilities = torch.stack([mask.float(), 1 - mask.float()])
    numbers = {"appearance": 10.0, "reach": None, "contrast": 13.0, "smoothness": 3.0, "nearness": 3.0}
    crf = {"probabilities": probabilities, "image": image, **numbers, "iterations": 2}
    return all_ | {"dense_crf": (ov.dense_crf, crf)}


NAMES = """complete weigh resize binarize polygon_mask save_mask load_mask Token Token.save Token.load
save_tokens load_tokens Trace.maps Trace.words_at Trace.self_attention Trace.to Trace.save
Trace.load AttentionMaps[] record record_image invert segment optimize_token SegmentRecipe
TokenRecipe load_pipeline show overlay setup_notebook predict check progress show_labels
contact_sheet draw_answer draw_places draw_rows draw_segmentation dense_crf""".split()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The doors; what is saved under a name made of junk lands in a folder of its own."""
    folder = tmp_path_factory.mktemp("doors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield doors(folder, sd_pipeline(word_tokenizer(), text_layers=0))


@pytest.fixture(autouse=True)
def _not_for_ever():
    """The end for what no signal interrupts, a loop in C++."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@contextmanager
def limited(seconds):
    """AssertionError where it takes longer."""

    def stop(*_):
        raise AssertionError(f"it takes more than {seconds} seconds")

    if not hasattr(signal, "setitimer"):  # not on Windows
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@cache
def lines_that_raise(path):
    """The lines of a source file that belong to `raise` statements with an error of their own."""
    nodes = ast.walk(ast.parse(Path(path).read_text("utf-8")))
    return {
        line
        for node in nodes
        if isinstance(node, ast.Raise) and node.exc is not None
        for line in range(node.lineno, node.end_lineno + 1)
    }


def tensors(answer):
    """All numbers that an answer holds."""
    if isinstance(answer, torch.Tensor):
        yield answer
    elif isinstance(answer, AttentionMaps):
        yield answer.values
    elif isinstance(answer, Segmentation):
        yield from (answer.scores, answer.labels)
    elif isinstance(answer, RankedWords):
        yield answer.values
    elif isinstance(answer, ov.Token):
        yield answer.class_
    elif isinstance(answer, ov.Trace):
        yield from answer.affinities.values()
        yield from (query for queries in answer.queries.values() for query in queries.values())
    elif isinstance(answer, dict):
        yield from (tensor for value in answer.values() for tensor in tensors(value))


def knock(door, arguments, name, value):
    """One call with one argument replaced."""
    said = f"{name}={value!r}"
    try:
        with limited(SECONDS):
            answer = door(**arguments | {name: value})
    except ERRORS as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = Path(last.filename).is_relative_to(PACKAGE) and last.lineno in lines_that_raise(last.filename)
        assert ours, f"{said}: {type(error).__name__}: {error} at {last.filename}:{last.lineno}"
        assert len(str(error)) >= 20, f"{said}: {error}"
        return
    for tensor in tensors(answer):
        assert tensor.isfinite().all(), f"{said} is answered with NaN"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_every_door_answers_or_says_why_not(world, name):
    if name not in world:
        pytest.skip("pydensecrf2 is not installed")
    door, arguments = world[name]
    knock(door, arguments, *next(iter(arguments.items())))  # the right call
    for argument in arguments:
        for junk in JUNK:
            knock(door, arguments, argument, junk)

    @settings(
        derandomize=True,
        database=None,
        deadline=None,  # `limited` has its own
        max_examples=6 * len(arguments),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(sorted(arguments)), MADE)
    def made_up(argument, value):
        knock(door, arguments, argument, value)

    made_up()


def test_every_public_name_is_a_door():
    others = {
        "AttentionMaps",
        "Trace",
        "setup_notebook",
    }  # asked under their methods' names
    assert {*ov.__all__} - others <= {*NAMES}
