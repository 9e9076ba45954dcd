"""Run a network without its values, and intercept every operation.

The network itself is never called. A copy of it runs (skeleton.py), whose tensors are on torch's meta device: they have
a shape and a type and no values. This takes milliseconds and no memory for a network of any size, and an operation that
needs values raises an error instead of giving a wrong answer. A mode of torch's dispatcher intercepts the operations
(tracer.py).
"""

from xailab.tracing.operations import META, is_pointwise, name_of, storage_of, tensors_in
from xailab.tracing.skeleton import Skeleton
from xailab.tracing.tracer import Tracer

__all__ = ["META", "Skeleton", "Tracer", "is_pointwise", "name_of", "storage_of", "tensors_in"]
