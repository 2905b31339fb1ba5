"""Modules that are imported when they are first asked for something.

Most commands need the client and nothing else. Database drivers, migrations and the registry's service take a second to
import, which would be felt in every command and at every press of TAB.
"""

from importlib import import_module
from typing import Any


class Later:
    """Stands in for a module; to the type checker it is the module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, word: str) -> Any:
        return getattr(import_module(self._name), word)
