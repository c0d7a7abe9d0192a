"""The bundled model's data: scenes of emoji on procedural grounds, with captions and exact masks.

sprites.py   the objects
grounds.py   the grounds behind them
words.py     the vocabulary of the captions
scenes.py    pictures, masks and captions from all three
streams.py   scenes without end: scene i of a stream is always the same
recorded.py  recordings of scenes
scores.py    how well labels fit their masks
"""

from .scenes import Scene, SceneObject, scene
from .sprites import CONCEPTS

__all__ = ["CONCEPTS", "Scene", "SceneObject", "scene"]
