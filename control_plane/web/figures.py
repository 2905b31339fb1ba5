"""Pictures that several pages show: field rates by version, the evidence of a rollout, the steps of a run."""

from collections.abc import Iterable
from datetime import datetime

from markupsafe import Markup

from control_plane.evaluation.schemas import CellItem, CoverageItem
from control_plane.kit import clock
from control_plane.pipelines.schemas import RunItem, StepItem
from control_plane.registry.schemas import VersionItem
from control_plane.telemetry.schemas import Rate
from control_plane.web.charts import WIDE, Field, Share, SharedBar, Whisker, heat, shared_bars, whiskers
from control_plane.web.names import SCALE, Names
from control_plane.web.render import amount, seconds, whole


def rate_words(rate: Rate) -> str:
    scale, _ = SCALE[rate.unit]
    if rate.rate is None:
        return "no exposure yet"
    high = f"{rate.high * scale:.2f}" if rate.high is not None else "∞"
    return f"{rate.rate * scale:.2f}  ({(rate.low or 0) * scale:.2f} to {high})"


def exposure_words(rate: Rate) -> str:
    scale, unit = SCALE[rate.unit]
    return f"{amount(rate.exposure / scale)} {unit}{'s' if unit == 'hour' else ''}, {whole(rate.events)} incidents"


def rate_picture(names: Names, rates: Iterable[tuple[VersionItem, Rate]], width: float = WIDE) -> Markup | None:
    """Draw incidents per exposure by version; None where no version has been in the field."""
    found = [(version, rate) for version, rate in rates if rate.exposure > 0]
    if not found:
        return None
    scale, unit = SCALE[found[0][1].unit]
    items = [
        Whisker(
            label=names.label(version.content_digest),
            low=(rate.low or 0) * scale,
            estimate=rate.rate * scale if rate.rate is not None else None,
            high=rate.high * scale if rate.high is not None else None,
            series=names.series(version.content_digest),
            words=rate_words(rate),
            href=f"/versions/{version.content_digest}",
            note=exposure_words(rate),
        )
        for version, rate in found
        if rate.unit == found[0][1].unit
    ]
    return whiskers(f"Incidents per {unit} by version, with 95 % intervals", items, f"per {unit}, 95 %", width=width)


def coverage_picture(coverage: CoverageItem) -> Markup | None:
    """Draw the declared domain: what is driven and not simulated stands out."""
    fields = [
        Field(
            cell.tags[0],
            cell.tags[-1],
            _state(cell),
            whole(cell.scenarios) if cell.scenarios else "",
            f"{' and '.join(cell.tags)}: {whole(cell.scenarios)} scenarios, {whole(cell.events)} field events, "
            f"{amount(cell.exposure)} of exposure",
        )
        for cell in coverage.cells
    ]
    return heat("The operating domain: driven and simulated", fields)


def _state(cell: CellItem) -> str:
    driven = cell.events > 0 or cell.exposure > 0
    if driven:
        return "both" if cell.scenarios else "gap"
    return "simulated" if cell.scenarios else "neither"


def steps_of(run: RunItem) -> list[tuple[str, StepItem]]:
    return sorted(run.steps.items(), key=lambda item: item[1].started_at)


def _lasted(step: StepItem) -> float:
    if step.seconds is not None:
        return step.seconds
    return max((clock.now() - step.started_at).total_seconds(), 0) if step.state == "running" else 0.0


def step_picture(run: RunItem) -> Markup | None:
    """Draw how long each step took: computing in jobs, and the rest, which is overhead."""
    bars = []
    for name, step in steps_of(run):
        lasted = _lasted(step)
        compute = min(step.compute_s or 0.0, lasted)
        rest = ("not finished", "moving") if step.state == "running" else ("overhead", "overhead")
        shares = [Share("computing", compute, "compute", seconds(compute))]
        shares.append(Share(rest[0], lasted - compute, rest[1], seconds(lasted - compute)))
        bars.append(SharedBar(name, shares, seconds(lasted) + (" so far" if step.state == "running" else "")))
    return shared_bars("Seconds of each step: computing and overhead", bars) if bars else None


def elapsed(start: datetime, end: datetime | None) -> str:
    return seconds(((end or clock.now()) - start).total_seconds())
