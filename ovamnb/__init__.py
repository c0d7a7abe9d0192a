"""How a text-to-image diffusion model knows where things are.

import ovamnb as ov

pipe = ov.load_pipeline()
with ov.record(pipe, self_attention=(32,)) as trace:
    image = pipe("a cat and a car on grass").images[0]

maps = trace.maps("a kitten on grass")              # any words, not only the prompt's
fine = ov.complete(maps["kitten"], trace.self_attention(32))
mask = ov.binarize(ov.resize(fine, image), threshold=0.4)
ov.show(image, mask)
"""

import sys

import lazy_loader

from .plumbing.moved import Signpost

# PyTorch takes seconds to import, so a module is imported when a name of it is used. The names: __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

if Signpost not in sys.meta_path:
    sys.meta_path.insert(0, Signpost)
