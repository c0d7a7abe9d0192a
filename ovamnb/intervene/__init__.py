"""Attention changed on purpose, to see what it causes; `ov.record` only listens.

with intervene.silence(pipe, heads=[0, 1], blocks=32):                       # which heads draw what?
    image = pipe("a cat on grass").images[0]
with intervene.reweight(pipe, "a cat on grass", {"cat": 2.0}):               # more of a word
    image = pipe("a cat on grass").images[0]
with intervene.swap(pipe, "a cat on grass", {"cat": "dog"}, keys=False):     # a dog where a cat was to be
    image = pipe("a cat on grass").images[0]
with intervene.keep_layout(pipe, "a cat on grass", "a dog on grass"):        # Prompt-to-Prompt
    cat, dog = pipe(["a cat on grass", "a dog on grass"], generator=intervene.twins(7)).images
with intervene.excite(pipe, "a cat and a dog", ["cat", "dog"]) as push:      # Attend-and-Excite
    image = pipe("a cat and a dog", callback_on_step_end=push).images[0]

All are forward hooks on `to_q`, `to_k`, `to_v` and `to_out[0]` of diffusers' attention, registered on enter
and removed on exit, whatever happens: a picture made outside is the same, bit for bit. They nest, in one
another and in `ov.record`, which records what the attention really used, whichever was entered first.

passes.py       what all share: which blocks, steps, halves and images of a generation are changed
wording.py      where a prompt's words stand, and the same prompt with another word
silencing.py    heads that say nothing
reweighting.py  a word that counts more, or less
swapping.py     a word that is found as one and drawn as another
keeping.py      another prompt in the layout of a first one
exciting.py     latents pushed until every word is looked at
effects.py      what moved, and what stayed
"""

from .effects import Effect, changed, effect, mask_iou
from .exciting import Push, excite, neglect, neglects
from .keeping import keep_layout, pairs, twins
from .reweighting import reweight, scaled
from .silencing import silence, silenced
from .swapping import swap

__all__ = [
    "Effect",
    "Push",
    "changed",
    "effect",
    "excite",
    "keep_layout",
    "mask_iou",
    "neglect",
    "neglects",
    "pairs",
    "reweight",
    "scaled",
    "silence",
    "silenced",
    "swap",
    "twins",
]
