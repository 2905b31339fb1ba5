"""Names and ids from the server while a command line is typed; nothing, and quickly, where it does not answer."""

from collections.abc import Callable, Iterable
from itertools import islice

from pydantic import BaseModel

from control_plane.cli import connection
from control_plane.client import Client, ClientError
from control_plane.kit.errors import Problem

MOST = 50
PATIENCE_S = 0.2


def names(listed: Callable[[Client], Iterable[BaseModel]], key: str) -> Callable[[str], list[str]]:
    """Return a completion that lists things by one of their fields."""

    def complete(incomplete: str) -> list[str]:
        connection.patience_s.set(PATIENCE_S)
        try:
            found = (str(getattr(item, key)) for item in islice(listed(connection.client("viewer")), 4 * MOST))
            return [name for name in found if name.startswith(incomplete)][:MOST]
        except (ClientError, Problem, ValueError, OSError, connection.NoServer):
            return []

    return complete


rollouts = names(lambda c: c.list_rollouts(), "id")
models = names(lambda c: c.list_models(), "name")
releases = names(lambda c: c.list_releases(), "digest")
devices = names(lambda c: c.list_devices(), "id")
device_classes = names(lambda c: c.list_device_classes(), "name")
gates = names(lambda c: c.list_gates(), "id")
runs = names(lambda c: c.list_runs(), "id")
pipelines = names(lambda c: c.list_pipelines(), "name")
reviews = names(lambda c: c.list_reviews(state="open"), "id")
recordings = names(lambda c: c.list_recordings(), "sha256")
webhooks = names(lambda c: c.list_webhooks(), "id")
