"""The small world the bundled model lives in: emoji on procedural grounds, with captions and exact masks.

Reading order: `sprites` and `grounds` (what there is to see), `words` (what there is to say), `scenes`
(both together), `data` (as batches); `text_encoder`, `autoencoder` and `denoiser` (the three parts of the
model), `stages` and `latents` (what they see, in which order), `train` (how they learn, by `ovamnb.loop`);
`recognise`, `oracle`, `measure_generation`, `measure_maps`, `iou`, `evaluate` and `card` (what they
learned); `clip` and `train_clip` (which concepts a picture shows), `tune` (the settings of DiffSegmenter).
"""

from .scenes import Scene, SceneObject, scene
from .sprites import CONCEPTS

__all__ = ["CONCEPTS", "Scene", "SceneObject", "scene"]
