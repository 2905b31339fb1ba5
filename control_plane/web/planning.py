"""The rollout wizard's form, read: from what a person filled in to a plan, and to what the plan reaches."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from control_plane.fleet.domain import StratumSize
from control_plane.kit.errors import Invalid
from control_plane.registry.schemas import ModelItem
from control_plane.rollout.domain import Control, counted_in, time_of
from control_plane.rollout.schemas import PlanBody, read_window, stage_bodies
from control_plane.web.names import SCALE

DAY_S = 86_400.0
USUAL = {
    "stages": "10, 50, 100",
    "deadline": "7 days",
    "most": "20",
    "margin": "100",
    "control": Control.CONCURRENT.value,
}
MOST_STAGES, MOST_DAYS, SITES_NAMED = 20, 3650.0, 12
TIMES = (
    (("", "d", "day", "days"), 1.0),
    (("h", "hour", "hours"), 1 / 24),
    (("min", "minute", "minutes"), 1 / 1440),
    (("s", "second", "seconds"), 1 / DAY_S),
)
TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)")
FIELDS = (*USUAL, "sites", "safe_state", "site_budget", "cell_budget", "window")


@dataclass(frozen=True, slots=True)
class Reach:
    """What a plan reaches in one stratum: its devices, and how many of them by the end of each stage."""

    site: str
    device_class: str
    devices: int
    by_stage: list[int]


def filled(given: Mapping[str, str], model: ModelItem) -> dict[str, str]:
    """Return the form's fields: as given, or as the model's own default plan has them."""
    usual = dict.fromkeys(FIELDS, "") | USUAL | _of_model(model)
    return {name: given.get(name, usual[name]).strip()[:500] for name in FIELDS}


def _of_model(model: ModelItem) -> dict[str, str]:
    stages = model.rollout.get("stages") or []
    scale, _ = SCALE[model.exposure]
    found = {name: str(model.rollout[name]) for name in ("safe_state", "site_budget") if model.rollout.get(name)}
    if stages:
        found["stages"] = ", ".join(f"{stage['fraction'] * 100:g}" for stage in stages)
        found["deadline"] = time_of(stages[0].get("deadline_s", 7 * DAY_S) / DAY_S)
        found["most"] = f"{stages[0].get('max_exposure', 20 * scale) / scale:g}"
    if model.rollout.get("margin"):
        found["margin"] = f"{model.rollout['margin'] * 100:g}"
    return found


def plan_of(fields: Mapping[str, str], model: ModelItem) -> PlanBody:
    """Return the plan that a form asks for; what the form does not name is as the model's own plan has it.

    Raises:
        Invalid: a field cannot be read; the words say which and why.
    """
    scale, _ = SCALE[model.exposure]
    fractions = [share / 100 for share in _numbers("stages", fields["stages"])]
    if fractions != sorted(set(fractions)):
        raise Invalid("stages: each must hold more devices than the one before, such as 10, 50, 100", code="bad_plan")
    most, days = _number("most", fields["most"]) * scale, days_of(fields["deadline"])
    asked: dict[str, Any] = {"margin": _number("margin", fields["margin"]) / 100, "control": fields["control"]}
    asked |= {name: int(_number(name, fields[name])) for name in ("site_budget", "cell_budget") if fields[name]}
    try:
        stages = stage_bodies(fractions, most, days)
        windows = [read_window(text) for text in fields["window"].split(";") if text.strip()]
        more = {"stages": stages, "windows": windows, "safe_state": fields["safe_state"]}
        body = PlanBody.model_validate(model.rollout | asked | more)
        body.to_plan(0)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Invalid(f"{' '.join(map(str, first['loc']))}: {first['msg']}", code="bad_plan") from error
    except ValueError as error:
        raise Invalid(str(error), code="bad_plan") from error
    return body


def days_of(text: str) -> float:
    """Read a time as people write it: "15 min", "12 h", "7 days"; a number alone is days.

    Raises:
        Invalid: it is none of these, or not above 0.
    """
    read = TIME.fullmatch(text.strip().lower())
    size = next((size for words, size in TIMES if read and read[2] in words), 0.0)
    found = float(read[1]) * size if read else 0.0
    if not 0 < found < MOST_DAYS:
        raise Invalid(f"deadline: {text[:40]!r} is no time; say 7 days, 12 h or 30 min", code="bad_plan")
    return found


def known_sites(text: str, known: Collection[str]) -> list[str] | None:
    """Read the sites a rollout is for; None is all of them.

    Raises:
        Invalid: the fleet has no such site.
    """
    asked = sites_of(text)
    strange = [site for site in asked or [] if site not in known]
    if strange:
        there = ", ".join(sorted(known)[:SITES_NAMED]) or "none"
        raise Invalid(f"sites: there is no site {strange[0][:60]!r}; such devices are at {there}", code="no_site")
    return asked


def _numbers(name: str, text: str) -> list[float]:
    parts = [part for part in text.replace("%", " ").replace(",", " ").split() if part]
    if not 1 <= len(parts) <= MOST_STAGES:
        raise Invalid(f"{name}: name 1 to {MOST_STAGES} shares in percent, such as 10, 50, 100", code="bad_plan")
    return [_number(name, part) for part in parts]


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < 1e9:
        raise Invalid(f"{name.replace('_', ' ')}: {text[:40]!r} is no number from 0 on", code="bad_plan")
    return value


def sites_of(text: str) -> list[str] | None:
    return [site.strip() for site in text.split(",") if site.strip()] or None


def reach_of(sizes: Sequence[StratumSize], plan: PlanBody) -> list[Reach]:
    """Say how many devices of each stratum each stage holds."""
    return [
        Reach(size.site, size.device_class, size.devices, [counted_in(size.devices, s.fraction) for s in plan.stages])
        for size in sorted(sizes, key=lambda size: (size.site, size.device_class))
    ]
