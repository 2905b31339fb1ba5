"""The production layout on one machine: every part real and a process of its own, two of each that may be two."""

from tests.support.whole.missing import why_not
from tests.support.whole.stack import Whole

__all__ = ["Whole", "why_not"]
