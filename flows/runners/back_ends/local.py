"""The local back end: threads of this process run the wrapper, each command in a process of its own on a leash.

Orders live and die with this process. A job that another process of this machine runs is unknown here; the ledger's
lease says whether it still is held.
"""

import os
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from control_plane.client import Client, ClientError
from control_plane.factory.schemas import JobItem
from flows.runners.back_ends.interface import Order
from flows.runners.watch import Watch
from flows.runners.wrapper import Turn, run_job
from flows.steps.orders import Phase, Seen, holder_tag


class LocalBackEnd:
    """Runs at most `slots` orders at once; `wake` is called when one ends."""

    runs_images = False

    def __init__(self, client: Client, home: Path, slots: int | None, wake: Callable[[], None]) -> None:
        self.slots = slots or max(1, min(2, os.cpu_count() or 1))
        self._client, self._home, self._wake = client, home, wake
        self._pool = ThreadPoolExecutor(self.slots, "job")
        self._orders: dict[str, tuple[Future[JobItem], Watch]] = {}
        self._lock = threading.Lock()
        self._us = f"{os.getpid()}-{uuid4().hex[:8]}"

    def submit(self, order: Order) -> None:
        with self._lock:
            if order.name not in self._orders:
                watch = Watch()
                future = self._pool.submit(self._run, order, watch)
                self._orders[order.name] = future, watch
                future.add_done_callback(lambda _: self._wake())

    def _run(self, order: Order, watch: Watch) -> JobItem:
        tag = holder_tag(order.name)
        turn = Turn(order.asked, order.attempt, tag)
        try:
            return run_job(self._client, order.key, self._home, f"{tag}-{self._us}", turn, watch)
        except ClientError as error:
            if error.code in ("job_not_free", "attempt_lost"):
                # Another process has it: an order of ours that ended would look as if that one's were lost.
                with self._lock:
                    self._orders.pop(order.name, None)
            raise

    def see(self, names: Collection[str]) -> Mapping[str, Seen]:
        with self._lock:
            held = {name: self._orders[name][0] for name in names if name in self._orders}
        return {name: _seen(future) for name, future in held.items()}

    def cancel(self, name: str) -> None:
        found = self._orders.get(name)
        if found is not None and not found[0].cancel():
            found[1].evicted = "cancelled"

    def logs(self, name: str) -> str:
        found = self._orders.get(name)
        return found[1].tail if found else ""

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _seen(future: Future[JobItem]) -> Seen:
    if future.cancelled():
        return Seen(Phase.GONE, "taken out of the line")
    if future.done():
        error = future.exception()
        return Seen(Phase.GONE, f"{type(error).__name__}: {error}" if error else "its wrapper ended")
    return Seen(Phase.RUNNING if future.running() else Phase.WAITING)
