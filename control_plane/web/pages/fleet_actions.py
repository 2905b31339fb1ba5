"""One action on many devices: which exactly, once more, and done."""

from urllib.parse import parse_qsl, urlencode

from control_plane.audit import service as audit
from control_plane.fleet import service
from control_plane.fleet.domain import Action, Filter
from control_plane.fleet.schemas import Selection
from control_plane.kit.errors import Conflict, Invalid, NotFound
from control_plane.kit.http import Response
from control_plane.kit.roles import Role
from control_plane.web.edge import FormCall, PageCall, SeeCall, pages
from control_plane.web.look import FIELDS_MOST, LONGEST, Look, look_in

TICKED_MOST = 200
DOES = {
    Action.QUARANTINE: ("Quarantine", "Nobody hears them any more until they are readmitted; they go on driving."),
    Action.READMIT: ("Release from quarantine", "They are heard again; whoever speaks first with a key is the device."),
    Action.RETIRE: ("Retire", "They leave the fleet: they are not heard, not counted, and in no rollout."),
    Action.LABEL: ("Label", "They get a label, or lose it; rollouts can keep to cells by label."),
}
CHANGED = "Other devices are meant by now, or some are in another state. Look again at which they are."
fleet_actions = pages()


def asked_of(fields: list[tuple[str, str]]) -> tuple[service.BulkAsk, Look]:
    """Read what is to be done to which devices: those that were ticked, or all that a look leaves.

    Raises:
        Invalid: there is no such action, or nothing is chosen.
    """
    said = dict(fields)
    if said.get("action") not in list(Action):
        raise Invalid(f"choose what is to be done: {', '.join(words.lower() for words, _ in DOES.values())}")
    query = urlencode([(name, value) for name, value in fields if name not in ("device", "action", "of")])
    look = look_in(query)
    wanted = look.wanted
    if said.get("of") != "all":
        ticked = list(dict.fromkeys(value for name, value in fields if name == "device"))
        if not ticked or len(ticked) > TICKED_MOST or any(len(each) > LONGEST for each in ticked):
            raise Invalid(f"tick the devices that are meant, at most {TICKED_MOST}, or choose all that match")
        wanted = Filter(ids=ticked)
    label, value = said.get("label", "").strip(), said.get("value", "").strip()
    if max(len(label), len(value)) > 100:
        raise Invalid("a label and its value have at most 100 characters each")
    return service.BulkAsk(action=Action(said["action"]), wanted=wanted, label=label, value=value), look


@fleet_actions.get("/fleet/actions")
async def preview(call: SeeCall) -> Response:
    """Say exactly on which devices an action would act."""
    call.principal.must_be(Role.OPERATOR)
    fields = call.request.query_params.multi_items()
    ask, look = asked_of(fields)
    return _shown(call, ask, look, fields, await service.select(call.session, call.principal, ask))


@fleet_actions.post("/fleet/actions")
async def act(call: FormCall) -> Response:
    """Ask once more, and only then do it."""
    call.principal.must_be(Role.OPERATOR)
    fields = parse_qsl(call.form.get("selection", ""), max_num_fields=TICKED_MOST + FIELDS_MOST)
    fields += [(name, call.form[name]) for name in ("label", "value") if name in call.form]
    ask, look = asked_of(fields)
    reason = call.reason()
    service.check(ask)
    if call.form.get("step") != "do":
        found = await service.select(call.session, call.principal, ask)
        same = found.seal == call.form.get("seal")
        return _shown(call, ask, look, fields, found, reason=reason if same else "", changed=not same)
    try:
        done = await service.act(call.context.database, call.principal, ask, call.form.get("seal", ""), reason)
    except Conflict:
        found = await service.select(call.session, call.principal, ask)
        return _shown(call, ask, look, fields, found, changed=True)
    return call.back(f"/fleet/actions/{done.id}?{look.query()}")


def _shown(
    call: PageCall,
    ask: service.BulkAsk,
    look: Look,
    fields: list[tuple[str, str]],
    found: Selection,
    *,
    reason: str = "",
    changed: bool = False,
) -> Response:
    """Show a selection; with a reason it is the second asking."""
    kept = [(name, value) for name, value in fields if name not in ("label", "value", "after", "before")]
    return call.show(
        "fleet_action.html",
        ask=ask,
        does=DOES[ask.action],
        look=look,
        everyone=ask.wanted.ids is None,
        found=found,
        selection=urlencode(kept),
        reason=reason,
        message=CHANGED if changed else "",
    )


@fleet_actions.get("/fleet/actions/{bulk_id}")
async def show_done(bulk_id: str, call: SeeCall) -> Response:
    """Show what became of it, as the audit trail has it."""
    entries = (await audit.list_entries(call.session, subject=bulk_id[:LONGEST], limit=100)).items
    last = next((entry for entry in entries if entry.action.startswith("fleet.bulk.")), None)
    if last is None:
        raise NotFound(f"there is no action {bulk_id[:60]} on many devices")
    look = look_in(call.request.url.query)
    action = Action(last.action.removeprefix("fleet.bulk."))
    return call.show("fleet_done.html", entry=last, does=DOES[action], action=action, look=look)
