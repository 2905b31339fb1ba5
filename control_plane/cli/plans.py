"""Plans of rollouts as they are typed and told: stages, windows, and a forecast in a table."""

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text
from typer import BadParameter

from control_plane.cli.output import console, plain, printable, say
from control_plane.rollout.schemas import ForecastItem, StageNeedItem, WindowBody, read_window

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
    """Print a forecast: a line for each stage and effect, with a bar for the days it takes."""
    if not found.known:
        say(found.because)
        return
    scale, unit = UNITS[found.unit]
    longest = max((need.days_needed or 0.0 for need in found.needs), default=0.0) or 1.0
    # With nobody left to compare with, nothing is to be seen.
    needs = sorted((need for need in found.needs if need.control_devices), key=lambda need: (need.stage, need.ratio))
    header = ["stage", "devices", "control", "to see", f"{unit} needed", "days", "", "decides"]
    _print([_row(need, scale, longest) for need in needs], header)
    per_day, rate = found.exposure_per_day / scale, (found.events_per_exposure or 0.0) * scale
    say(f"this fleet drives {per_day:.4g} {unit} a day with {rate:.3g} incidents per {unit}; {found.because}")


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


def _row(need: StageNeedItem, scale: float, longest: float) -> list[str]:
    days, exposure = need.days_needed, need.exposure_needed
    bar = "never" if days is None else "█" * round(WIDTH * days / longest) or "▏"
    return [
        f"{need.stage + 1} ({need.fraction:.0%})",
        str(need.canary_devices),
        str(need.control_devices),
        f"{need.ratio:g}x",
        "∞" if exposure is None else f"{exposure / scale:.3g}",
        "∞" if days is None else f"{days:.2g}",
        bar,
        "yes" if need.can_decide else "no",
    ]


def window_of(text: str) -> WindowBody:
    """Read a maintenance window as it is typed; raises BadParameter where it cannot be read at all."""
    try:
        return read_window(text)
    except ValidationError:
        raise  # it names the part that is wrong, and is told like that of every other body
    except ValueError as error:
        raise BadParameter(str(error)) from error
