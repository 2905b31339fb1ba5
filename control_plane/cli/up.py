"""`fleetloop up`: everything on one machine until Ctrl-C."""

import contextlib
import signal
import threading
from types import FrameType

from rich.console import Console

from control_plane.cli.stack import TARGETS, Stack


def run_up(stack: Stack, console: Console) -> int:
    """Start, say where everything is, wait for a signal, stop everything; return the exit status."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        with console.status("starting"):
            stack.start()
        console.print(f"control plane {stack.url}   (API reference {stack.url}/api/openapi.json)")
        if stack.options.orchestrator == "prefect":
            console.print(f"Prefect       {stack.prefect_url}")
        console.print(f"tokens        {stack.home / 'tokens'}\nlogs          {stack.home / 'logs'}")
        console.print(f"metrics       {stack.home / TARGETS}, for Prometheus\nCtrl-C ends it")
        stopped.wait()
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            stack.stop()
        (stack.home / "stack.json").unlink(missing_ok=True)
    return 0
