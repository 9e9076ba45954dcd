"""Colours: three floats from 0 to 255, red, green and blue."""

import numpy as np

INK = np.array([44.0, 30.0, 66.0])  # what shadows and outlines lean to
SUN = np.array([255.0, 246.0, 218.0])  # what lit sides lean to
SHADE = np.array([0.42, 0.33, 0.33])  # the part of its own colour that a surface keeps in deep shadow


def rgb(code: str) -> np.ndarray:
    """The colour "#rrggbb" as three floats from 0 to 255."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], float)


def mix(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The colour at t of the way from a to b."""
    return a + (b - a) * t


def darker(colour: np.ndarray, t: float = 0.4) -> np.ndarray:
    """Towards a deep shade of the colour itself, leaning to the ink."""
    return mix(colour, SHADE * colour + 0.6 * INK, t)


def lighter(colour: np.ndarray, t: float = 0.5) -> np.ndarray:
    """Towards sunlight."""
    return mix(colour, SUN, t)


WHITE, BLACK, PINK, CREAM = rgb("#FBF7F0"), rgb("#2B2635"), rgb("#F0A0A0"), rgb("#FBE9CE")
BRIGHT = [rgb(c) for c in ("#E4574C", "#F2A541", "#3FA796", "#3E7CB1", "#8E62B8", "#E87EA1", "#6DB35B", "#F4D35E")]


def pick(rng, options):
    """One of the options."""
    return options[rng.integers(len(options))]


def two(rng, options) -> list:
    """Two different ones of the options."""
    return [options[i] for i in rng.choice(len(options), 2, replace=False)]


def tinted(rng, colour, amount: float = 12.0):
    """The colour, a little lighter or darker and of a slightly other hue."""
    return np.clip(colour + rng.normal(0, amount) + rng.normal(0, amount / 2.5, 3), 12, 250)
