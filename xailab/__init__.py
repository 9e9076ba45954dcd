"""xailab: tested implementations behind a course on seeing inside vision networks.

Import what you need, one module a method: ``from xailab import cam, flops``.
"""

__version__ = "0.2.0.dev0"
