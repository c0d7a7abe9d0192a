"""Records a trace for the page, small enough to travel, and writes the page around it."""

import base64
import html
import shutil
from dataclasses import dataclass
from pathlib import Path
from string import Template

import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from safetensors import safe_open
from safetensors.torch import save_file

import ovamnb as ov
from ovamnb.models import DRAWINGS
from ovamnb.plumbing.files import whole, write_text

HERE = Path(__file__).parent
TITLE = "Ask it in the browser"
PROMPT, SEED = "a cat and a car on grass", 19  # README's picture
EXAMPLES = ("a kitten on grass", "an animal and an automobile", "a photograph of fur", "an umbrella on grass")
TRACE, PICTURE = "trace.safetensors", "picture.png"
MEANS = "dictionary/means"  # a tensor that `Trace.load` passes over
SCRIPTS, STYLE = ("trace_reader.js", "ask_page.js"), "ask.css"


@dataclass(frozen=True)
class Recorded:
    """What the page says of its trace."""

    prompt: str
    steps: int  # that were kept
    passes: int  # that there were
    words: int
    megabytes: float


def record(folder: Path, prompt: str = PROMPT, seed: int = SEED) -> Recorded:
    """Draw `prompt` with the bundled model and write TRACE and PICTURE into `folder`.

    A trace reads the same in half precision, as queries are kept anyway: 10 MB instead of 19, six of them the
    table of words. TRACE.js holds the same bytes as a script, for a page opened by a double click.

    Raises ValueError for a prompt that the model cannot read, before anything is drawn.
    """
    drawing = DRAWINGS["bundled"]
    pipe = ov.load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    words = len(pipe.tokenizer) - len(pipe.tokenizer.all_special_tokens)
    noise = torch.Generator().manual_seed(seed)
    ways = ("down_blocks", "up_blocks")  # what `trace.maps` adds up
    with ov.record(pipe, steps=drawing.few, blocks=ways, self_attention=(drawing.finest,)) as trace:
        image = pipe(
            prompt,
            num_inference_steps=drawing.steps,
            guidance_scale=drawing.guidance,
            generator=noise,
        ).images[0]
    pipe.text_encoder.half()  # the trace shares it; the picture is drawn
    trace.key_weights = {name: weight.half() for name, weight in trace.key_weights.items()}
    trace.affinities = {grid: affinity.half() for grid, affinity in trace.affinities.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / PICTURE) as partial:
        image.save(partial, format="png")
    trace.save(folder / TRACE, text_encoder=True)
    add_means(trace, folder / TRACE, words)
    content = (folder / TRACE).read_bytes()
    write_text(folder / f"{TRACE}.js", f'globalThis.ovamnbTrace = "{base64.b64encode(content).decode()}";\n')
    return Recorded(prompt, len(trace.steps), trace.passes, words, len(content) / 1e6)


def add_means(trace: ov.Trace, path: Path, words: int) -> None:
    """Put the tensor MEANS (token of the vocabulary,) into a saved trace: each word's share of attention in
    the whole picture, asked alone. The page compares a place with it, and has no time for all places."""
    everywhere = torch.ones(trace.image_size, dtype=torch.bool)
    ranked = trace.words_at(everywhere, together=False, count=words)
    numbers = trace.text_encoder.tokenizers[0].get_vocab()
    means = torch.zeros(len(numbers))
    means[[numbers[word] for word in ranked.words]] = torch.as_tensor(ranked.shares)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        metadata = file.metadata()
    with whole(path) as partial:
        save_file({**tensors, MEANS: means.half()}, partial, metadata=metadata)


def body(recorded: Recorded, at: str = "") -> str:
    """The page without its frame; the files of `record` lie in the folder `at`, such as "ask/"."""
    stops = colormaps["viridis"](range(256))
    examples = " ".join(f'<button type="button">{html.escape(text)}</button>' for text in EXAMPLES)
    return Template((HERE / "ask.html").read_text("utf-8")).substitute(
        trace=at + TRACE,
        picture=at + PICTURE,
        colours="".join(to_hex(stop)[1:] for stop in stops),
        prompt=html.escape(recorded.prompt),
        first=html.escape(EXAMPLES[0]),
        examples=examples,
        steps={1: "one", 2: "two", 3: "three"}.get(recorded.steps, recorded.steps),
        passes=recorded.passes,
        words=f"{recorded.words:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        megabytes=f"{recorded.megabytes:.0f}",
    )


def standalone(folder: Path, recorded: Recorded) -> None:
    """Write index.html and what it needs beside the files of `record`."""
    for name in (*SCRIPTS, STYLE):
        shutil.copyfile(HERE / name, folder / name)
    frame = Template((HERE / "standalone.html").read_text("utf-8"))
    write_text(folder / "index.html", frame.substitute(title=TITLE, body=body(recorded)))
