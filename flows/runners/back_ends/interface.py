"""What a back end is: it runs orders, and says of each whether it lives. It is never believed about more than that."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from flows.steps.orders import Seen

LOG_BYTES = 64 << 10
"""How much of the end of an order's log is given back."""


class BackEndError(RuntimeError):
    """The back end did not answer, or refused; it may be asked again later."""


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt of one job: `name` is its identity at the back end, `key` the job that its wrapper takes.

    `image` is what the job states, None if it states none.
    """

    name: str
    key: str
    asked: int
    attempt: int
    cpus: float
    gpus: float
    memory_bytes: int
    limit_s: float
    image: str | None = None


class BackEnd(Protocol):
    """All methods may raise BackEndError; each is bounded in time.

    `runs_images` says whether an order's command runs in the image that it states.
    """

    runs_images: bool

    def submit(self, order: Order) -> None:
        """Start an order. One of that name that waits, runs or ended is not started again."""

    def see(self, names: Collection[str]) -> Mapping[str, Seen]:
        """Say of each order how it stands; one that is not in the answer is unknown here."""

    def cancel(self, name: str) -> None:
        """End an order if it lives; without complaint if it does not."""

    def logs(self, name: str) -> str:
        """Return the end of what an order's wrapper printed, "" if there is nothing."""

    def close(self) -> None:
        """Let go of what is held here; orders elsewhere go on."""
