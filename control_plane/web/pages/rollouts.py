"""Rollouts: their stages, their evidence over time, their deployments; and people's wishes."""

from collections import Counter
from collections.abc import Sequence

from fastapi.responses import JSONResponse
from markupsafe import Markup

from control_plane.evaluation import service as evaluation
from control_plane.fleet import service as fleet
from control_plane.kit.errors import Invalid
from control_plane.kit.http import Cursor, Response
from control_plane.kit.roles import Role
from control_plane.kit.statistics import rate_interval
from control_plane.registry import service as registry
from control_plane.review import service as review
from control_plane.review.domain import ReviewState
from control_plane.rollout import service
from control_plane.rollout.domain import ENDS, NEED_NOTE, Phase, time_of
from control_plane.rollout.schemas import DecisionItem, RolloutItem, RolloutWish, TallyItem
from control_plane.web.charts import HALF, Whisker, whiskers
from control_plane.web.edge import FormCall, PageCall, SeeCall, pages
from control_plane.web.names import SCALE, Names, load_names
from control_plane.web.needs import exposure_words, needs_of, needs_picture
from control_plane.web.weighing import evidence_picture, evidence_plot, figures_of, halted_because

SHOWN_DEPLOYMENTS = 300
NAMED = 100
ACTIONS = ("start", "pause", "resume", "halt", "proceed")
rollouts = pages()


@rollouts.get("/rollouts")
async def show_rollouts(call: SeeCall, after: Cursor = None) -> Response:
    found = await service.list_rollouts(call.session, after=after, limit=50)
    baselines = await service.list_baselines(call.session)
    return call.show("rollouts.html", names=await load_names(call), found=found, baselines=baselines, ends=ENDS)


@rollouts.get("/rollouts/{rollout_id}")
async def show_rollout(rollout_id: str, call: SeeCall) -> Response:
    item = await service.get(call.session, rollout_id)
    names = await load_names(call)
    decisions = await service.list_decisions(call.session, rollout_id, 500)
    deployments = await service.list_deployments(call.session, rollout_id, limit=SHOWN_DEPLOYMENTS)
    serials = await fleet.serials(call.session, [d.device_id for d in deployments[:NAMED]])
    standings = _standings(await service.tally(call.session, rollout_id))
    return call.show(
        "rollout.html",
        names=names,
        rollout=item,
        release=await registry.get_release(call.session, item.release),
        gate=await evaluation.get_gate(call.session, item.gate_id) if item.gate_id else None,
        review=await _open_review(call, item),
        wishes=_possible(item) if call.may(Role.OPERATOR) else [],
        ended=item.phase in ENDS,
        halted_because=halted_because(decisions),
        evidence=evidence_picture(decisions),
        rates=_rates(names, item),
        ratio=_ratio(item),
        decisions=_changes(decisions)[-40:],
        deployments=deployments,
        deployed=sum(devices for _, devices in standings),
        counts=standings,
        serials=serials,
        explanation=(await service.explain(call.session, rollout_id)).lines[1:],
        needs=needs_of(item.forecast),
        needs_picture=needs_picture(item.forecast, item.plan["stages"]),
        need_note=NEED_NOTE,
        time_of=time_of,
        exposure_words=exposure_words,
        unit=names.models[item.model].exposure,
        figures=figures_of(item.figures, names.models[item.model].exposure),
    )


@rollouts.get("/rollouts/{rollout_id}/evidence.json")
async def evidence_series(rollout_id: str, call: SeeCall) -> Response:
    """Give the e-values since the first stage began, for the chart that can be zoomed."""
    return JSONResponse(evidence_plot(await service.list_decisions(call.session, rollout_id, 500)))


@rollouts.post("/rollouts/{rollout_id}/wishes")
async def wish(rollout_id: str, call: FormCall) -> Response:
    """Take a person's wish; reconcilers make it so."""
    call.principal.must_be(Role.OPERATOR)
    action = call.form.get("action", "")
    if action not in ACTIONS:
        raise Invalid(f"there is no wish {action[:40]!r}")
    body = RolloutWish.model_validate({"action": action, "reason": call.reason()})
    await service.wish(call.session, call.principal.name, rollout_id, body)
    return call.back(f"/rollouts/{rollout_id}")


async def _open_review(call: PageCall, item: RolloutItem) -> object | None:
    """Return the question about this release or rollout that waits for a person."""
    found = (await review.list_reviews(call.session, state=ReviewState.OPEN, limit=50)).items
    return next((r for r in found if r.subject in (item.release, item.id)), None)


def _possible(item: RolloutItem) -> list[tuple[str, str, str]]:
    """Return (action, its button, what it does) for what a person can want now."""
    if item.phase in ENDS or item.phase is Phase.HALTING or item.wishes.get("halt"):
        return []
    can = []
    if not item.wishes.get("start"):
        can.append(("start", "Start", "Begin with the first stage once the gate and the approvals are there."))
    if item.phase in (Phase.ROLLING, Phase.HELD) and item.wishes.get("proceed_past") != item.stage:
        can.append(("proceed", "Proceed", f"Let stage {item.stage + 1} pass without proof from the field."))
    if item.wishes.get("pause"):
        can.append(("resume", "Resume", "Go on where it was paused."))
    else:
        can.append(("pause", "Pause", "Stop widening; devices that have the release keep it."))
    halted = "Withdraw the release; devices that run it go back." if item.started_at else "Withdraw it now."
    return [*can, ("halt", "Halt", halted)]


def _changes(decisions: Sequence[DecisionItem]) -> list[DecisionItem]:
    """Keep the decisions in which phase or stage changed, and the newest."""
    kept = [
        d
        for i, d in enumerate(decisions)
        if i == 0 or (d.phase, d.stage) != (decisions[i - 1].phase, decisions[i - 1].stage)
    ]
    return kept if not decisions or kept[-1] is decisions[-1] else [*kept, decisions[-1]]


def _standings(lines: Sequence[TallyItem]) -> list[tuple[str, int]]:
    """Add strata up; the most first."""
    total: Counter[str] = Counter()
    for line in lines:
        total[line.standing] += line.devices
    return total.most_common()


def _rates(names: Names, item: RolloutItem) -> Markup | None:
    """Draw canary and control with Poisson intervals; the decision itself weighs strata and devices."""
    model = names.models.get(item.model)
    if model is None or not item.figures.get("canary_exposure"):
        return None
    scale, unit = SCALE[model.exposure]
    found = []
    for arm, digest in (("canary", item.content_digest), ("control", item.champion)):
        events, exposure = item.figures.get(f"{arm}_events") or 0, item.figures.get(f"{arm}_exposure") or 0
        bounds = rate_interval([float(events)], [float(exposure)], 0.95)
        if bounds.estimate is not None:
            words = f"{bounds.estimate * scale:.2f}  ({bounds.low * scale:.2f} to {bounds.high * scale:.2f})"
            note = f"{events} in {exposure / scale:.3g} {unit}"
            low, middle, high = bounds.low * scale, bounds.estimate * scale, bounds.high * scale
            label = f"{arm} {names.label(digest)}"
            found.append(Whisker(label, low, middle, high, names.series(digest), words, note=note))
    return whiskers(f"Incidents per {unit}: canary and control", found, f"per {unit}, 95 %", width=HALF)


def _ratio(item: RolloutItem) -> Markup | None:
    figures = item.figures
    ratio, low, high = (figures.get(name) for name in ("ratio", "ratio_low", "ratio_high"))
    if not ratio:
        return None
    ratio, low = float(ratio), float(low or 0.0)
    words = f"{ratio:.2f}  ({low:.2f} to {f'{high:.2f}' if high is not None else '∞'})"
    whisker = Whisker("canary ÷ control", max(low, 0.02), ratio, high, "s0", words)
    margin = 1 + float(item.plan["margin"])
    marks = [(1.0, "equal"), (margin, f"margin {margin:g}")]
    return whiskers("Ratio of the rates", [whisker], "ratio", lines=marks, log=True, width=HALF)
