"""A thin, typed client of the Muster fleet server, for notebooks and pipelines.

Publishing a bundle needs the publisher's offline keys: that is the command line's (`muster bundle`, `muster release`).
"""

from .client import Event, Muster
from .errors import MusterError, Refused, Timeout, Unreachable

__all__ = ["Event", "Muster", "MusterError", "Refused", "Timeout", "Unreachable"]
