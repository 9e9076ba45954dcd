"""The receptive field: the pixels that one cell of a layer can see, computed from the layers before it.

Three files: the recurrence of Araujo et al. (recurrence.py), the operations that follow it (rules.py), and one forward
pass without values that applies them (field.py). Operations that work on each place by itself change nothing. After an
operation without a rule the field is not known, and the reason is kept.
"""

from xailab.receptive_field.field import Fields, receptive_field, square
from xailab.receptive_field.recurrence import ReceptiveField

__all__ = ["Fields", "ReceptiveField", "receptive_field", "square"]
