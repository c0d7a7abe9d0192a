"""The small world the bundled model lives in: emoji on procedural grounds, with captions and exact masks.

sprites.py   the things there are to see
grounds.py   what they stand on
words.py     what there is to say
scenes.py    pictures, masks and captions out of all three
streams.py   scenes without end: number i of a stream is always the same
recorded.py  what the model sees in them
scores.py    how well labels fit their masks
"""

from .scenes import Scene, SceneObject, scene
from .sprites import CONCEPTS

__all__ = ["CONCEPTS", "Scene", "SceneObject", "scene"]
