"""What grows in a phantom: rings that take up contrast, solid masses, and patches without a clear border."""

import math
from typing import NamedTuple

import numpy as np

from xailab.datasets.drawing.shapes import Plane, noise, ramp
from xailab.datasets.phantoms.anatomy import FLUID, Frame, Head

KINDS, SHARES = ("ring", "solid", "diffuse"), (0.4, 0.35, 0.25)
RADIUS = (0.28, 0.39)  # of a lesion with its oedema, in half lengths of the head
LEAST = 0.02  # share of the picture that a lesion covers
DRAINED = 0.27  # brightness of oedema


class Lesion(NamedTuple):
    """A lesion in the pixels of a canvas.

    Attributes:
        brightness: Of the picture with it.
        cover: How much of each pixel it changes, 0 to 1.
    """

    brightness: Plane
    cover: Plane


def grown(rng, head: Head, place: Frame) -> Lesion:
    """Lay a lesion into a head; it stays within the brain, and out of the sulci and ventricles."""
    side = len(head.brain)
    while True:
        x, y = _somewhere(rng, place)
        radius = rng.uniform(*RADIUS)
        distance = _distance(rng, head, x, y, radius)
        # fluid does not swell, and oedema keeps to the white matter
        room = np.clip(head.brain * 1.25, 0, 1)
        oedema = (1 - ramp(distance, 0.82, 1.06)) * room * (0.55 + 0.45 * head.white)
        kind = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
        lump = rng.uniform(0.55, 0.78)
        core = (1 - ramp(distance, lump - 0.06, lump + 0.06)) * head.inside
        cover = np.maximum(oedema, core)
        if (cover > 0.5).mean() >= LEAST:
            break
    picture = head.brightness
    texture = noise(rng, side, 18)
    if kind == "diffuse":
        depth = rng.uniform(0.75, 1.0)
        patchy = np.clip(0.95 + 0.3 * noise(rng, side, 10), 0, 1)
        picture = _laid(picture, rng.uniform(0.17, 0.27) + 0.02 * texture, cover * depth * patchy)
        glow = ramp(noise(rng, side, 12), 0.7, 1.3) * core
        return Lesion(_laid(picture, 0.8, 0.6 * glow), cover)
    picture = _laid(picture, DRAINED + 0.015 * texture, oedema * rng.uniform(0.75, 1.0))
    bright = rng.uniform(0.74, 0.9)
    picture = _laid(picture, bright + 0.07 * texture, core)
    if kind == "ring":
        thick = rng.uniform(0.12, 0.22) * (1 + 0.3 * noise(rng, side, 6))
        dead = 1 - ramp(distance - lump + thick, -0.08, 0)
        picture = _laid(picture, rng.uniform(FLUID, 0.3) + 0.03 * texture, dead * core)
    return Lesion(picture, cover)


def _somewhere(rng, place: Frame) -> tuple[float, float]:
    """A point of the brain, away from its outline."""
    turn, far = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0.04, 0.36))
    return place.breadth * far * math.cos(turn), far * math.sin(turn)


def _distance(rng, head: Head, x: float, y: float, radius: float) -> Plane:
    """Distance from a lesion's middle as a share of its radius, along a ragged outline."""
    u, v = head.across - x, head.down - y
    turn, flat = rng.uniform(0, math.pi), rng.uniform(0.75, 1.0)
    along, beside = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
    stray = 0.13 * noise(rng, len(u), 7) + 0.08 * noise(rng, len(u), 16)
    return (np.sqrt(along**2 * flat + beside**2 / flat) / radius + stray).astype(np.float32)


def _laid(picture, brightness, cover) -> Plane:
    return picture + (brightness - picture) * cover
