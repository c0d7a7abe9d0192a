"""What a large vocabulary costs `ov.segment`: `python -m workshop.measure.vocabulary`, some minutes.

    python -m workshop.measure.vocabulary 500 apart      # one row, as JSON

The bundled model segments a rendered scene, enlarged to 512×512 pixels, into 28 to 500 classes, the first
words of its vocabulary: each in a text of its own, or together, as many in a text as it holds. Each row is
measured in a process of its own. "peak" is memory beside the model's; "with scores" the same where the scores
of all classes at the image's size are read, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from PIL import Image

import ovamnb as ov
from ovamnb.emoji.streams import stream
from ovamnb.text import TextEncoder

from ..bench.peaks import peak_memory

COUNTS = (28, 100, 200, 500)
WAYS = ("apart", "together")
SIDE = 512
SHORTEST = 3  # letters of a word: less is seldom one


def words_of(pipe, count: int) -> list[str]:
    """The first `count` words of the tokenizer that the text encoder takes as they are."""
    vocabulary = sorted(pipe.tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    words = [word for word, _ in vocabulary if word.isalpha() and len(word) >= SHORTEST and word.isascii()]
    if len(words) < count:
        raise ValueError(f"The model's vocabulary has {len(words)} words, not {count}: ask for fewer.")
    return words[:count]


def measure(count: int, way: str) -> dict[str, float]:
    """Seconds, UNet passes and bytes at the peak of one segmentation."""
    pipe = ov.load_pipeline(device="cpu")
    [picture] = stream("test", 1, objects=2)
    image = Image.fromarray(picture.image).resize((SIDE, SIDE))
    names, passes = words_of(pipe, count), []
    TextEncoder.of(pipe).encode("a cat")  # what is imported at first use is not the classes' memory
    ov.segment(pipe, image, ["cat"], together=False)

    with pipe.unet.register_forward_hook(lambda *seen: passes.append(len(seen[2][0]))):
        with peak_memory(pipe.device) as taken:
            start = time.perf_counter()
            result = ov.segment(pipe, image, names, together=way == "together")
            seconds, peak = time.perf_counter() - start, taken()
            assert result.scores.shape == (count, SIDE, SIDE)
    return {"seconds": seconds, "passes": len(passes), "peak": peak, "with scores": taken()}


def main() -> None:
    if sys.argv[1:]:
        count, way = sys.argv[1:]
        print(json.dumps(measure(int(count), way)))
        return
    print("classes  way             s  ms a class  passes  peak, MB  with scores")
    for way in WAYS:
        for count in COUNTS:
            command = [sys.executable, "-m", "workshop.measure.vocabulary", str(count), way]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"{count:>7}  {way:<10}{row['seconds']:>7.1f}{1000 * row['seconds'] / count:>12.0f}"
                f"{row['passes']:>8}{row['peak'] / 1e6:>10.0f}{row['with scores'] / 1e6:>17.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
