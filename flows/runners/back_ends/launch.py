"""How an order's wrapper is started on a node: with which interpreter, in which folder, with whose token."""

import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from flows.runners.back_ends.interface import Order

PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Launch:
    """What nodes have. All are paths and names as the nodes see them; `token_file` is None where they get it otherwise.

    The token itself is never part of an order: clusters show commands and environments to whoever may list jobs.
    """

    server: str
    token_file: PurePosixPath | None
    home: PurePosixPath
    python: str = "python3"
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        token = {"FLEETLOOP_TOKEN_FILE": str(self.token_file)} if self.token_file else {}
        return self.env | token | {"FLEETLOOP_SERVER": self.server, "FLEETLOOP_HOME": str(self.home)}

    def argv(self, order: Order) -> list[str]:
        return [self.python, "-m", "flows.runners.wrapper", order.key, order.name]

    def script(self, order: Order) -> str:
        """Return a shell script that becomes the wrapper, so that signals to the script reach it."""
        environment = {"PATH": PATH} | self.environment()  # for it is given nothing of whoever orders
        exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        return "\n".join(["#!/bin/sh", *exports, f"exec {shlex.join(self.argv(order))}", ""])
