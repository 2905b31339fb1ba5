"""A new rollout: what it reaches, how long it takes and what it can see, before anything is made."""

from collections.abc import Mapping, Sequence

from control_plane.evaluation import service as evaluation
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import StratumSize
from control_plane.kit.errors import Invalid
from control_plane.kit.http import Response
from control_plane.kit.roles import Role
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem, ReleaseItem
from control_plane.rollout import service
from control_plane.rollout.domain import NEED_NOTE, time_of
from control_plane.rollout.schemas import PlanBody, RolloutCreate, RolloutPlan
from control_plane.web.edge import FormCall, PageCall, SeeCall, pages
from control_plane.web.names import SCALE, load_names
from control_plane.web.needs import exposure_words, needs_of, needs_picture
from control_plane.web.planning import filled, known_sites, plan_of, reach_of

SHOWN_RELEASES = 50
SHOWN_STRATA = 100
wizard = pages()


@wizard.get("/rollouts/new")
async def show_wizard(call: SeeCall, release: str = "") -> Response:
    """Ask for a release first, then show the plan and what it comes to; all of it is in the address."""
    if not release:
        releases = (await registry.list_releases(call.session))[:SHOWN_RELEASES]
        return call.show("wizard_release.html", names=await load_names(call), releases=releases)
    item = await registry.get_release(call.session, release)
    model = await registry.get_model(call.session, item.model)
    fields = filled(call.request.query_params, model)
    there = await fleet.strata(call.session, item.device_classes, None)
    return call.show(
        "wizard.html",
        names=await load_names(call),
        release=item,
        model=model,
        fields=fields,
        unit=SCALE[model.exposure][1],
        sites=sorted({size.site for size in there}),
        gate=await _gate_of(call, item.content_digest),
        may=call.may(Role.OPERATOR),
        **await _preview(call, item, model, fields, there),
    )


async def _gate_of(call: PageCall, content: str) -> object | None:
    """Return the newest gate that judged this content."""
    found = (await evaluation.list_gates(call.session, candidate=content, limit=1)).items
    return found[0] if found else None


async def _preview(
    call: PageCall,
    release: ReleaseItem,
    model: ModelItem,
    fields: Mapping[str, str],
    there: Sequence[StratumSize],
) -> dict[str, object]:
    """Say what the plan comes to, or what is wrong with it."""
    nothing: dict[str, object] = {"problem": "", "plan": None}
    try:
        plan = plan_of(fields, model)
        sites = known_sites(fields["sites"], {size.site for size in there})
    except Invalid as error:
        return nothing | {"problem": error.detail}
    sizes = [size for size in there if sites is None or size.site in sites]
    asked = RolloutPlan(
        model=model.name, device_classes=release.device_classes, plan=plan, sites=sites, release=release.digest
    )
    forecast = (await service.plan_rollout(call.session, asked)).model_dump(mode="json")
    stages = plan.model_dump(mode="json")["stages"]
    reach = reach_of(sizes, plan)
    return nothing | {
        "plan": plan,
        "strata": reach[:SHOWN_STRATA],
        "more": max(len(reach) - SHOWN_STRATA, 0),
        "totals": [sum(r.by_stage[i] for r in reach) for i in range(len(plan.stages))],
        "devices": sum(r.devices for r in reach),
        "forecast": forecast,
        "needs": needs_of(forecast),
        "picture": needs_picture(forecast, stages),
        "need_note": NEED_NOTE,
        "time_of": time_of,
        "exposure_words": exposure_words,
    }


@wizard.post("/rollouts/new")
async def make(call: FormCall) -> Response:
    """Make the rollout as it was shown. It does not start by itself: that is asked on its own page."""
    call.principal.must_be(Role.OPERATOR)
    release = await registry.get_release(call.session, call.form.get("release", ""))
    model = await registry.get_model(call.session, release.model)
    fields = filled(call.form, model)
    there = {size.site for size in await fleet.strata(call.session, release.device_classes, None)}
    body = _asked(call, release, plan_of(fields, model), known_sites(fields["sites"], there))
    item = await service.create_rollout(call.session, call.context.objects, call.principal.name, body)
    return call.back(f"/rollouts/{item.id}")


def _asked(call: PageCall, release: ReleaseItem, plan: PlanBody, sites: list[str] | None) -> RolloutCreate:
    return RolloutCreate(
        release=release.digest,
        plan=plan,
        gate_id=call.form.get("gate") or None,
        override_reason=call.form.get("override_reason", "").strip()[:1000],
        plan_override=call.form.get("plan_override", "").strip()[:1000],
        preempt=call.form.get("preempt") == "yes",
        sites=sites,
        start=False,
    )
