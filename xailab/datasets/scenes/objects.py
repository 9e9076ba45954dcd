"""The ten objects by name."""

from xailab.datasets.scenes.animals import bird, butterfly, cat, dog, fish
from xailab.datasets.scenes.things import car, mug, rocket, sailboat, umbrella

OBJECTS = {f.__name__: f for f in (cat, dog, bird, fish, butterfly, car, sailboat, rocket, umbrella, mug)}
AIRBORNE = {"bird", "butterfly", "fish", "rocket", "umbrella"}  # they hang in front of the background
