"""When devices may switch: days and hours on the wall of their site, in an IANA time zone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Window:
    """Open from `start` to `end` ("HH:MM" on the wall of `zone`) on `days`; over midnight where `end` is earlier.

    `sites` it is for; empty: for all. A window over midnight belongs to the day on which it opens. Where the clock is
    put forward or back the wall decides, so a window may be an hour shorter or longer on that day.
    """

    zone: str
    start: str
    end: str
    days: tuple[str, ...] = DAYS
    sites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            _zone(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"a plan's window names the time zone {self.zone!r}, which is no IANA zone") from error
        if _clock(self.start) == _clock(self.end):
            raise ValueError(f"a plan's window from {self.start} to {self.end} is never open")
        strange = [day for day in self.days if day not in DAYS]
        if strange or not self.days:
            raise ValueError(f"a plan's window has days among {', '.join(DAYS)}, not {list(self.days)}")

    def is_open(self, now: datetime) -> bool:
        """Say whether it is open at an instant with a time zone."""
        wall = now.astimezone(_zone(self.zone))
        start, end, at = _clock(self.start), _clock(self.end), wall.time()
        if start < end:
            return start <= at < end and DAYS[wall.weekday()] in self.days
        opened = wall if at >= start else wall - timedelta(days=1)
        return (at >= start or at < end) and DAYS[opened.weekday()] in self.days

    @property
    def words(self) -> str:
        return f"{self.start} to {self.end} {self.zone} on {', '.join(self.days)}"


def window_closed(windows: Sequence[Window], site: str, now: datetime) -> str:
    """Return when a site's devices may switch, if that is not now; "" if they may. Without a window they always may."""
    ours = [window for window in windows if not window.sites or site in window.sites]
    if not ours or any(window.is_open(now) for window in ours):
        return ""
    return " or ".join(window.words for window in ours)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@cache
def _clock(text: str) -> time:
    try:
        return datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - a time on a wall has no zone of its own
    except ValueError as error:
        raise ValueError(f"a plan's window has times as HH:MM, not {text!r}") from error
