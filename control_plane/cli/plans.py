"""Plans of rollouts as they are typed and told: stages, windows, and a forecast in a table."""

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text
from typer import BadParameter

from control_plane.cli.output import console, plain, printable, say
from control_plane.rollout.domain import NEED_NOTE, NeedLine, need_lines
from control_plane.rollout.schemas import ForecastItem, WindowBody, read_window

UNITS = {"distance_m": (1000.0, "km"), "duration_s": (3600.0, "h")}
WIDTH = 12


def read_fractions(text: str) -> list[float]:
    """Read "0.1,0.5,1.0".

    Raises:
        BadParameter: it is something else.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise BadParameter(f"--stages is fractions with commas between, such as 0.1,1.0, not {text!r}") from error


def tell_forecast(found: ForecastItem) -> None:
    """Print what speaks against a release, and a forecast: lines for each stage, with bars for the days."""
    for doubt in found.doubts.items if found.doubts else ():
        say(f"warning: {doubt.words}{f' ({doubt.rollout_id})' if doubt.rollout_id else ''}")
    if not found.known:
        say(found.because)
        return
    scale, unit = UNITS[found.unit]
    # With nobody left to compare with, nothing is to be seen.
    lines = need_lines([need.model_dump() for need in found.needs])
    longest = max((line.days or 0.0 for line in lines), default=0.0) or 1.0
    header = ["stage", "devices", "control", "to", f"{unit} needed", "days", "", "in time"]
    _print([_row(line, scale, longest) for line in lines], header)
    per_day, rate = found.exposure_per_day / scale, (found.events_per_exposure or 0.0) * scale
    say(f"this fleet drives {per_day:.4g} {unit} a day with {rate:.3g} incidents per {unit}; {found.because}")
    say(NEED_NOTE)


def _print(rows: list[list[str]], header: list[str]) -> None:
    if not console.is_terminal:
        say("\n".join(plain(rows, header, "")))
        return
    table = Table(header_style="bold")
    for column in header:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(text)) for text in row))
    console.print(table)


def _row(line: NeedLine, scale: float, longest: float) -> list[str]:
    days, exposure = line.days, line.exposure
    bar = "never" if days is None else "█" * round(WIDTH * days / longest) or "▏"
    return [
        f"{line.stage + 1} ({line.fraction:.0%})",
        str(line.canary_devices),
        str(line.control_devices),
        line.words,
        "∞" if exposure is None else f"{exposure / scale:.3g}",
        "∞" if days is None else f"{days:.2g}",
        bar,
        "yes" if line.in_time else "no",
    ]


def window_of(text: str) -> WindowBody:
    """Read a maintenance window as it is typed; raises BadParameter where it cannot be read at all."""
    try:
        return read_window(text)
    except ValidationError:
        raise  # it names the part that is wrong, and is told like that of every other body
    except ValueError as error:
        raise BadParameter(str(error)) from error
