"""One action on many devices: first say exactly on which, then do it to exactly those.

What is done is what was shown: the seal of a selection covers its action, every id and every state, and a selection
that has another seal by now must be looked at again. Devices are changed a bounded number in each transaction, each
written to the audit trail with it; a transaction that fails leaves those before it done, and asking again does the
rest.
"""

import hashlib
import re
from collections.abc import Sequence

from pydantic import Field

from control_plane.audit import service as audit
from control_plane.fleet.domain import BECOMES, FROM, Action, Filter
from control_plane.fleet.schemas import NAME, BulkDone, Named, Selection
from control_plane.fleet.service.listing import settled
from control_plane.fleet.store import bulk as store
from control_plane.fleet.store import listing
from control_plane.kit.auth import Principal
from control_plane.kit.db import Database, Row, Session
from control_plane.kit.errors import Conflict, Invalid, TooLarge
from control_plane.kit.ids import new_id
from control_plane.kit.pages import Schema
from control_plane.kit.roles import Role

AT_ONCE_MOST = 20_000
BATCH = 500
NAMED_MOST = 100
ENTRY_EACH_MOST = 100
KEPT_LABELS = frozenset({"simulated"})
"""Labels that say what a device is; people do not change them."""


class BulkAsk(Schema):
    """What is to be done to which devices; a label without a value is taken away."""

    action: Action
    wanted: Filter
    label: str = Field(default="", max_length=100)
    value: str = Field(default="", max_length=100)


async def select(session: Session, who: Principal, ask: BulkAsk) -> Selection:
    """Say on which devices an action would act.

    Raises:
        Forbidden: the person is no operator. TooLarge: they are more than one action may touch.
    """
    who.must_be(Role.OPERATOR)
    return _selection(ask, await _found(session, ask))


async def _found(session: Session, ask: BulkAsk) -> Sequence[Row]:
    await listing.plan_each(session)
    found = await listing.ids(session, await settled(session, ask.wanted), AT_ONCE_MOST + 1)
    if len(found) > AT_ONCE_MOST:
        raise TooLarge(
            f"these are more than {AT_ONCE_MOST} devices, the most that one action may touch: narrow the filter"
        )
    return found


def _selection(ask: BulkAsk, found: Sequence[Row]) -> Selection:
    states = set(FROM[ask.action])
    named = [
        Named(
            id=line["device_id"],
            serial=line["serial"],
            site=line["site"],
            state=line["state"],
            changes=line["state"] in states,
        )
        for line in found[:NAMED_MOST]
    ]
    changes = sum(line["state"] in states for line in found)
    return Selection(action=ask.action, count=len(found), changes=changes, first=named, seal=_seal(ask, found))


def _seal(ask: BulkAsk, found: Sequence[Row]) -> str:
    said = hashlib.sha256(f"{ask.action}\n".encode())
    for line in found:
        said.update(f"{line['device_id']} {line['state']}\n".encode())
    return said.hexdigest()


async def act(database: Database, who: Principal, ask: BulkAsk, seal: str, reason: str) -> BulkDone:
    """Do it, if the selection is still the one that was shown.

    Raises:
        Conflict: other devices are meant by now, or they are in another state. Invalid: the label is no name.
    """
    who.must_be(Role.OPERATOR)
    check(ask)
    async with database.transaction() as session:
        found = await _found(session, ask)
    if _seal(ask, found) != seal:
        raise Conflict("the devices that are meant have changed since you looked: look again", code="selection_changed")
    ids = [line["device_id"] for line in found]
    done = BulkDone(id=new_id("bulk"), action=ask.action, asked=len(ids), changed=0)
    for start in range(0, len(ids), BATCH):
        async with database.transaction() as session:
            moved = await _change(session, ask, ids[start : start + BATCH])
            done = done.model_copy(update={"changed": done.changed + len(moved)})
            last = start + BATCH >= len(ids)
            await _record(session, who, ask, done, moved, reason, last=last)
    return done


def check(ask: BulkAsk) -> None:
    """Raise Invalid where a label cannot be set."""
    if ask.action is not Action.LABEL:
        return
    if not re.match(NAME, ask.label):
        raise Invalid("a label's name has letters, digits and . _ - only, and begins with one of the first two")
    if ask.label in KEPT_LABELS:
        raise Invalid(f"the label {ask.label!r} says what a device is and is not changed by people")


async def _change(session: Session, ask: BulkAsk, ids: Sequence[str]) -> list[str]:
    before = [state.value for state in FROM[ask.action]]
    if ask.action is Action.LABEL:
        return await store.set_label(session, ids, before, ask.label, ask.value)
    return await store.set_state(session, ids, before, BECOMES[ask.action].value)


async def _record(
    session: Session, who: Principal, ask: BulkAsk, done: BulkDone, moved: list[str], reason: str, *, last: bool
) -> None:
    """Write an entry for each device, or, where they are many, one that names those of this transaction."""
    action = f"device.{BECOMES[ask.action].value if ask.action in BECOMES else 'labelled'}"
    what = {"label": ask.label, "value": ask.value} if ask.action is Action.LABEL else {}
    if done.asked <= ENTRY_EACH_MOST:
        for device_id in moved:
            await audit.record(session, who.name, action, device_id, reason, bulk=done.id, **what)
    elif moved:
        await audit.record(session, who.name, f"{action}.some", done.id, reason, devices=moved, **what)
    if last:
        counts = {"asked": done.asked, "changed": done.changed}
        await audit.record(session, who.name, f"fleet.bulk.{ask.action}", done.id, reason, **counts, **what)
