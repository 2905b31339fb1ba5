"""One change to many devices, a bounded number in each statement."""

from collections.abc import Sequence

from control_plane.kit.db import Session, execute, rows

_LOCKED = """with locked as materialized (
    select id from fleet_device where id = any(cast(:ids as text[])) and state = any(cast(:from as text[]))
    order by id for update)"""
_TOLD = "select pg_notify('fleetloop_device', id) from unnest(cast(:ids as text[])) as n(id)"


async def set_state(session: Session, ids: Sequence[str], before: Sequence[str], state: str) -> list[str]:
    """Move devices to a state, and have every process forget what it knows of them; return those that were moved."""
    anew = ", boots = '[]', last_seq = -1, last_nonce = null, boot_ends = '{}'" if state == "active" else ""
    moved = await rows(
        session,
        f"""{_LOCKED} update fleet_device d set state = :state{anew}
            from locked where d.id = locked.id returning d.id""",
        **{"ids": list(ids), "from": list(before), "state": state},
    )
    found = sorted(line["id"] for line in moved)
    await execute(session, _TOLD, ids=found)
    return found


async def set_label(session: Session, ids: Sequence[str], before: Sequence[str], name: str, value: str) -> list[str]:
    """Give devices a label, or take it away (an empty value); return those that did not have it so."""
    new = (
        "d.labels - cast(:name as text)"
        if not value
        else "d.labels || jsonb_build_object(cast(:name as text), cast(:value as text))"
    )
    moved = await rows(
        session,
        f"""{_LOCKED} update fleet_device d set labels = {new}
            from locked where d.id = locked.id and d.labels is distinct from {new} returning d.id""",
        **{"ids": list(ids), "from": list(before), "name": name} | ({"value": value} if value else {}),
    )
    return sorted(line["id"] for line in moved)
