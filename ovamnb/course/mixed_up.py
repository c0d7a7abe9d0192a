"""Chapter 10: which object a word lies on, and two of a kind, which no word tells apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor

from ..emoji.scenes import scene
from ..emoji.sprites import STYLES
from ..images import record_image
from ..refine import grid_like, resize
from ..select import Blocks
from ..trace import Trace


def objects_of(trace: Trace, names: Sequence[str], image: int = 0, best: Blocks | None = None) -> Tensor:
    """Rough masks (object, h, w) bool of the objects that `names` name, which stand in one text: the piece
    around a name's peak in which it has the largest share of them all, and more than half of its peak."""
    heats = trace.maps([*names], image=image, blocks=best).share
    stack = torch.stack([heats[name] for name in names]).cpu()
    largest = stack.argmax(dim=0)
    masks = []
    for k, heat in enumerate(stack):
        place = divmod(int(heat.argmax()), heat.shape[1])
        own = torch.where(largest == k, heat, 0.0)
        own[place] = heat.max()  # so that no mask is empty
        masks.append(piece_at(own, place))
    return torch.stack(masks)


def densest(maps: Tensor, masks: Tensor) -> Tensor:
    """How dense each word is on each object, the mean of its map there over its mean everywhere:
    `maps` (word, h, w), `masks` (object, h, w) bool on the same grid → (word, object). 1 is as anywhere."""
    area = masks.flatten(1).double()
    on = maps.cpu().flatten(1).double() @ area.T / area.sum(dim=1)
    return on / maps.cpu().double().mean(dim=(-2, -1))[:, None]


def colour_of(image, masks: Tensor) -> Tensor:
    """The mean colour of an image's pixels under each mask (object, h, w) bool → (object, 3), red, green and
    blue from 0 to 1."""
    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255
    pixels = F.interpolate(pixels, size=tuple(masks.shape[-2:]), mode="area")[0]
    return torch.stack([pixels[:, mask].mean(dim=1) for mask in masks])


def twins(
    concept: str = "cat", seed: int = 11, size: tuple[int, int] = (128, 128)
) -> tuple[np.ndarray, Tensor]:
    """A picture (h, w, 3) of two of a kind, side by side on grass, and the mask of each, (2, h, w) bool."""
    h, w = size
    halves = [
        scene(
            seed + i, size=(h, w // 2), concepts=[concept], ground_name="grass", style=STYLES[0], plain=True
        )
        for i in range(2)
    ]
    image = np.concatenate([half.image for half in halves], axis=1)
    masks = torch.zeros(2, h, 2 * (w // 2), dtype=torch.bool)
    for i, half in enumerate(halves):
        masks[i, :, i * (w // 2) : (i + 1) * (w // 2)] = torch.from_numpy(half.mask(concept))
    return image, masks


def clicked(
    pipe, image: np.ndarray, mask: Tensor, text: str, word: str, finest: int, best: Blocks | None = None
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """A word's map (h, w), the row of self-attention (h, w) of the place deepest inside a `mask`, walked one
    step further, and that place (y, x)."""
    trace = record_image(pipe, image, text, self_attention=(finest,))
    affinity = trace.self_attention(finest).float().cpu()
    grid = grid_like(tuple(mask.shape), len(affinity))
    deepest = np.unravel_index(distance_transform_edt(mask.numpy()).argmax(), mask.shape)
    y, x = (int(at * n // side) for at, n, side in zip(deepest, grid, mask.shape, strict=True))
    row = affinity[y * grid[1] + x] @ affinity
    return trace.maps(text, blocks=best).share[word].cpu(), row.unflatten(0, grid), (y, x)


def shares_on(heat: Tensor, masks: Tensor) -> list[float]:
    """How the heat (h, w) that lies on objects is divided among them: `masks` (object, h, w) bool of any
    size → one share each, which sum to 1."""
    heat = resize(heat, tuple(masks.shape[-2:]))
    on = torch.stack([heat[mask].sum() for mask in masks])
    return (on / on.sum()).tolist()


def piece_at(heat: Tensor, place: tuple[int, int], share: float = 0.5) -> Tensor:
    """The connected piece (h, w) bool of what exceeds a `share` of the peak of `heat` (h, w) that holds the
    `place` (y, x), or, where it lies in none, the nearest one."""
    pieces, _ = label((heat > share * heat.max()).numpy())
    _, (rows, columns) = distance_transform_edt(pieces == 0, return_indices=True)
    y, x = place
    return torch.from_numpy(pieces == pieces[rows[y, x], columns[y, x]])
