"""Templates and the small words of formatting: digests, times, amounts. Everything is escaped."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from control_plane.kit import clock
from control_plane.web.nav import NAV
from control_plane.web.tables import labelled

NONE = "\u2013"
HERE = Path(__file__).parent
MEDIA = {
    ".txt": "text/plain; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Return every static file by name; nothing else is ever served from the disk."""
    return {path.name: (path.read_bytes(), MEDIA[path.suffix]) for path in sorted((HERE / "static").rglob("*.*"))}


@cache
def static_version() -> str:
    return sha256(b"".join(data for data, _ in static_files().values())).hexdigest()[:12]


def ago(at: datetime | None) -> str:
    """Say how long ago something was, in its largest unit."""
    if at is None:
        return "never"
    seconds = (clock.now() - at).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def instant(at: datetime | None) -> Markup:
    if at is None:
        return Markup('<span class="quiet">never</span>')
    return _time(at, " data-ago", ago(at))


def clock_time(at: datetime | None) -> Markup:
    if at is None:
        return Markup('<span class="quiet">never</span>')
    return _time(at, "", f"{at:%m-%d %H:%M:%S}")


def _time(at: datetime, kind: str, words: str) -> Markup:
    """Give UTC; `shell.js` tells it in the reader's zone, and keeps "ago" up to date."""
    made = Markup('<time datetime="{at}"{kind} title="{full}">{words}</time>')
    full = f"{at:%Y-%m-%d %H:%M:%S} UTC"
    return made.format(at=f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", kind=Markup(kind), full=full, words=words)  # noqa: S704 - ours


def amount(value: float | None, digits: int = 3) -> str:
    """Write a number with a few digits that count, thousands apart."""
    if value is None:
        return NONE
    if abs(value) >= 1e7:
        return f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.{digits}g}"


def whole(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}".replace(",", "\u202f")


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    if value < 90:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"


def size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def energy(joules: float) -> str:
    if joules < 1000:
        return f"{joules:.0f} J"
    return f"{joules / 1000:.1f} kJ" if joules < 3.6e6 else f"{joules / 3.6e6:.2f} kWh"


def money(usd: float) -> str:
    """Write dollars with as many digits as a small amount needs; what is more than nothing never reads as nothing."""
    if 0 < usd < 0.0001:
        return "< $0.0001"
    return f"${usd:,.2f}" if usd >= 100 or usd == 0 else f"${usd:.4f}"


def counted(number: float, name: str, many: str = "") -> str:
    """Write a count with its noun: "1 part", "2 parts"."""
    return f"{whole(number)} {name if number == 1 else many or name + 's'}"


def after_verdict(because: str, verdict: object) -> str:
    """Leave out the verdict with which a gate's sentence begins, where a badge says it already."""
    return because.removeprefix(f"{verdict}: ").replace("all 1 parts pass", "its only part passes")


def fact(value: object) -> str:
    """Write a fact as people would: yes and no, numbers with few digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return amount(value, 4) if isinstance(value, (int, float)) else str(value)


def words(value: object) -> str:
    """Write a name of the code as words."""
    return str(value).replace("_", " ")


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)[:20_000]


def digest(value: str | None, length: int = 10) -> Markup:
    """Show a digest or id short; the whole in its title, and to be copied."""
    if not value:
        return Markup('<span class="quiet">{}</span>').format(NONE)
    short = short_id(value) if "_" in value else value if len(value) <= length + 2 else value[:length]
    button = Markup('<button type="button" class="digest" data-copy="{0}" title="{0} - click to copy">{1}</button>')
    return button.format(value, short)


def short_id(value: str) -> str:
    """Shorten an id to its prefix and the random end, which is what differs."""
    prefix, _, rest = value.rpartition("_")
    return f"{prefix}_…{rest[-6:]}" if prefix and len(rest) > 10 else value


@cache
def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters: tuple[Callable[..., object], ...] = (instant, clock_time, amount, whole, seconds, size, energy, words)
    filters += (pretty, fact, digest, short_id, money, counted, after_verdict)
    made.filters.update({function.__name__: function for function in filters})
    made.globals |= {"static_version": static_version, "nav": NAV}
    return made


def page(template: str, **view: Any) -> str:
    return labelled(environment().get_template(template).render(**view))
