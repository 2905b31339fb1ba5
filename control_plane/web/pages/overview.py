"""The overview: the loop with what it holds, what runs, what waits for a person; and the answers to reviews."""

from control_plane.datasets import service as datasets
from control_plane.evaluation import service as evaluation
from control_plane.evaluation.schemas import EvaluationItem
from control_plane.fleet import service as fleet
from control_plane.fleet.schemas import FleetLine
from control_plane.kit.errors import Invalid
from control_plane.kit.http import Response
from control_plane.kit.pages import Page
from control_plane.kit.roles import Role
from control_plane.pipelines import service as pipelines
from control_plane.pipelines.domain import ENDS as RUN_ENDS
from control_plane.pipelines.schemas import RunItem
from control_plane.registry import service as registry
from control_plane.registry.schemas import VersionItem
from control_plane.review import service as review
from control_plane.review.domain import ReviewState
from control_plane.review.schemas import ReviewAnswerCreate
from control_plane.rollout import service as rollout
from control_plane.rollout.domain import ENDS, Phase
from control_plane.rollout.schemas import RolloutItem
from control_plane.telemetry import service as telemetry
from control_plane.telemetry.schemas import Rate, RateLine
from control_plane.training import service as training
from control_plane.training.domain import TrainingState
from control_plane.web.charts import Station, loop
from control_plane.web.edge import FormCall, PageCall, SeeCall, pages
from control_plane.web.figures import elapsed, rate_picture, steps_of
from control_plane.web.names import RATE_S, Names, load_names, rate_of
from control_plane.web.pages.doors import local
from control_plane.web.render import amount, counted, whole

SHOWN_VERSIONS = 6
SHOWN_ROLLOUTS = 20
overview = pages()


@overview.get("/")
async def show_overview(call: SeeCall) -> Response:
    names = await load_names(call)
    rollouts = (await rollout.list_rollouts(call.session, limit=SHOWN_ROLLOUTS)).items
    runs = (await pipelines.list_runs(call.session, limit=1)).items
    fleet_lines = await call.desk.cache.get("fleet", RATE_S, lambda: fleet.summary(call.session))
    sums = await field_sums(call)
    stations = await _stations(call, names, fleet_lines, sums, rollouts)
    rates = await version_rates(call, names, sums)
    return call.show(
        "overview.html",
        loop=loop(stations),
        names=names,
        baselines=await rollout.list_baselines(call.session),
        live=next((r for r in rollouts if r.phase not in ENDS), None),
        latest=rollouts[0] if rollouts else None,
        reviews=(await review.list_reviews(call.session, state=ReviewState.OPEN, limit=10)).items,
        run=runs[0] if runs else None,
        steps=steps_of(runs[0]) if runs else [],
        run_lasted=elapsed(runs[0].requested_at, runs[0].finished_at) if runs else "",
        rates=rate_picture(names, rates),
        simulated=await is_simulated(call),
        devices=sum(line.devices for line in fleet_lines),
        alarms=await _alarms(call, rollouts),
    )


@overview.post("/reviews/{review_id}")
async def answer_review(review_id: str, call: FormCall) -> Response:
    """Approve or reject, with a reason."""
    call.principal.must_be(Role.APPROVER)
    said = call.form.get("answer")
    if said not in ("approve", "reject"):
        raise Invalid("an answer is approve or reject")
    body = ReviewAnswerCreate(approves=said == "approve", reason=call.reason())
    await review.answer(call.session, call.principal, review_id, body)
    return call.back(local(call.form.get("back", "/")))


async def _alarms(call: PageCall, rollouts: list[RolloutItem]) -> list[tuple[str, str, str]]:
    """Return (where to look, what, why) of what is wrong just now, the gravest first."""
    trust = await registry.trust_status(call.session, call.context.keyring)
    found = [("/settings", f"trust: {alarm.subject}", alarm.because) for alarm in trust.alarms]
    halting = [r for r in rollouts if r.phase in (Phase.HALTING, Phase.HELD)]
    found += [(f"/rollouts/{r.id}", f"rollout {r.model} is {r.phase}", r.because) for r in halting]
    runs = (await pipelines.list_runs(call.session, limit=1)).items
    failed = [run for run in runs if run.failure]
    return found + [
        (f"/runs/{run.id}", f"the newest run of {run.pipeline} failed", (run.failure or "").splitlines()[-1])
        for run in failed
    ]


async def is_simulated(call: PageCall) -> bool:
    """Say whether any device class says of itself that its field is a simulation."""
    return any(c.facts.get("simulated") is True for c in await fleet.list_classes(call.session))


async def field_sums(call: PageCall) -> list[RateLine]:
    return await call.desk.cache.get("sums", RATE_S, lambda: telemetry.sums(call.session))


async def version_rates(
    call: PageCall, names: Names, sums: list[RateLine], model: str | None = None
) -> list[tuple[VersionItem, Rate]]:
    """Return the rates of the newest versions that have been in the field, oldest first."""
    seen = {line.content_digest for line in sums}
    found = [v for d, v in names.versions.items() if d in seen and model in (None, v.model)]
    newest = sorted(found, key=lambda v: v.created_at)[-SHOWN_VERSIONS:]
    return [(version, await rate_of(call, version)) for version in newest]


async def _stations(
    call: PageCall, names: Names, fleet_lines: list[FleetLine], sums: list[RateLine], rollouts: list[RolloutItem]
) -> list[Station]:
    live = next((r for r in rollouts if r.phase not in ENDS), None)
    runs = (await pipelines.list_runs(call.session, limit=5)).items
    return [
        _field(names, fleet_lines, sums),
        await _data(call),
        await _training(call),
        await _simulation(call, runs),
        await _evidence(call),
        _release(rollouts, live),
    ]


def _field(names: Names, fleet_lines: list[FleetLine], sums: list[RateLine]) -> Station:
    kinds = {kind for model in names.models.values() for kind, rule in model.events.items() if rule.incident}
    incidents = sum(n for line in sums for kind, n in line.counts.items() if kind in kinds)
    metres = sum(line.distance_m for line in sums)
    devices = sum(line.devices for line in fleet_lines)
    detail = f"{whole(incidents)} incidents, {amount(metres / 1000)} km"
    return Station("Field", "/fleet", whole(devices), "devices", detail, busy=bool(sums))


async def _data(call: PageCall) -> Station:
    found = await datasets.list_versions(call.session, limit=20)
    newest = found.items[0] if found.items else None
    detail = f"newest: {newest.clips} clips" if newest else "no dataset version yet"
    unit = "dataset version" if len(found.items) == 1 else "dataset versions"
    return Station("Data", "/events", f"{len(found.items)}{'+' if found.next else ''}", unit, detail)


async def _training(call: PageCall) -> Station:
    found = await training.list_trainings(call.session, limit=50)
    done = sum(t.state is TrainingState.DONE for t in found.items)
    open_ = sum(t.state is TrainingState.ASKED for t in found.items)
    failed = sum(t.state is TrainingState.FAILED for t in found.items)
    parts = [words for n, words in ((open_, f"{open_} under way"), (failed, f"{failed} failed")) if n]
    figure = f"{done}{'+' if found.next else ''}"
    return Station("Training", "/runs", figure, "done", ", ".join(parts) or "none under way", bool(open_))


async def recent_evaluations(call: PageCall) -> Page[EvaluationItem]:
    """Return the newest evaluations, at most some seconds old: each one counts its results."""
    key = "evaluations"
    return await call.desk.cache.get(key, 4.0, lambda: evaluation.list_evaluations(call.session, limit=12))


async def _simulation(call: PageCall, runs: list[RunItem]) -> Station:
    found = (await recent_evaluations(call)).items
    done = sum(e.done for e in found)
    running = any(r.state not in RUN_ENDS for r in runs)
    under_way = next((e for e in found if running and e.done < e.scenarios), None)
    detail = f"newest {counted(len(found), 'evaluation')}" if found else "no evaluation yet"
    if under_way:
        detail = f"{under_way.suite_name}: {whole(under_way.done)} of {whole(under_way.scenarios)}"
    return Station("Simulation", "/evaluations", whole(done), "scenarios", detail, busy=under_way is not None)


async def _evidence(call: PageCall) -> Station:
    found = await evaluation.list_gates(call.session, limit=20)
    verdicts = [str(g.verdict) for g in found.items]
    parts = [f"{verdicts.count(v)} {v}" for v in ("pass", "fail", "inconclusive") if v in verdicts]
    figure = f"{len(verdicts)}{'+' if found.next else ''}"
    return Station("Evidence", "/evaluations#gates", figure, "gates", ", ".join(parts) or "no gate yet")


def _release(rollouts: list[RolloutItem], live: RolloutItem | None) -> Station:
    detail = "no rollout yet"
    if live:
        detail = f"{live.phase.replace('_', ' ')}, stage {live.stage + 1} of {len(live.plan['stages'])}"
    elif rollouts:
        detail = f"newest: {rollouts[0].phase}"
    figure = f"{len(rollouts)}{'+' if len(rollouts) == SHOWN_ROLLOUTS else ''}"
    href = f"/rollouts/{live.id}" if live else "/rollouts"
    return Station("Release", href, figure, "rollouts", detail, live is not None)
