"""Which route a request was for, by names that strangers cannot make up."""

from collections.abc import Mapping
from typing import Any


def route_of(scope: Mapping[str, Any]) -> str:
    """Return the path of the route that answered; "other" for a path that no route knows.

    Of Starlette's own routes the scope names none: without parameters the path that was asked for is the route's.
    """
    path = getattr(scope.get("route"), "path", None)
    if path is not None:
        return str(path)
    return str(scope["path"]) if "endpoint" in scope and not scope.get("path_params") else "other"
