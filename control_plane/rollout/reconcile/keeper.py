"""One tick: claim each unfinished rollout, see, decide, write. What a keeper remembers only saves reading it again."""

from control_plane.audit import service as audit
from control_plane.kit import outbox
from control_plane.kit.context import Context
from control_plane.kit.db import Session, execute
from control_plane.rollout import store
from control_plane.rollout.domain import ENDS, Decision, Phase, decide
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.reconcile import act, look, record
from control_plane.rollout.reconcile.field import FieldView
from control_plane.rollout.reconcile.record import rollout_of
from control_plane.rollout.service import ACTOR

LINEAGE = {Phase.DONE: "COMPLETE", Phase.HALTED: "FAIL", Phase.WITHDRAWN: "ABORT"}
"""How a promotion ended, in the words of run events."""
TOLD = {
    Phase.HALTING: "rollout.halted",
    Phase.HALTED: "rollout.halted",
    Phase.HELD: "rollout.held",
    Phase.DONE: "rollout.done",
}
"""Outbox topics of what is told outside; the way back (halting) is told when it begins, not again at its end."""


class Keeper:
    """Moves rollouts in one worker. Several may, side by side: a rollout's row is claimed for each step."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._fields: dict[str, FieldView] = {}

    async def tick(self) -> int:
        """Move every unfinished rollout one step; return how many changed."""
        async with self.context.database.transaction() as session:
            waiting = await store.unfinished(session)
        self._fields = {name: view for name, view in self._fields.items() if name in waiting}
        moved = 0
        for rollout_id in waiting:
            try:
                async with self.context.database.transaction() as session:
                    row = await store.claim(session, rollout_id)
                    if row is not None and Phase(row.phase) not in ENDS:
                        moved += await self._step(session, row)
            except BaseException:
                self._fields.pop(rollout_id, None)  # it may remember what was undone
                raise
        return moved

    async def _step(self, session: Session, row: RolloutRow) -> bool:
        view = self._fields.setdefault(row.id, FieldView())
        now = look.now()
        await look.fix_strata(session, row)
        before, seen = rollout_of(row), await look.see(self.context, session, row, view, now)
        decision = decide(before, seen)
        said = (row.phase, row.stage, row.because)
        record.write(row, decision, now)
        for action in decision.actions:
            await act.do(session, row, action, now)
        await self._tell(session, row, decision, said)
        await record.keep(session, row, record.Made(before, seen, decision, view, now))
        row.figures = dict(decision.figures)
        return said != (row.phase, row.stage, row.because)

    async def _tell(self, session: Session, row: RolloutRow, decision: Decision, said: tuple[str, int, str]) -> None:
        if said[:2] == (row.phase, row.stage):
            return
        await execute(session, "select pg_notify('fleetloop', ''), pg_notify('fleetloop_rollout', '')")
        event = LINEAGE.get(Phase(row.phase))
        if event is not None and said[0] != row.phase:
            await outbox.tell_lineage(session, "promote", row.id, event, row.finished_at or look.now())
        topic = TOLD.get(Phase(row.phase))
        if topic is not None and said[0] not in (row.phase, Phase.HALTING):
            await outbox.tell(session, topic, row.id, decision.because, f"/rollouts/{row.id}")
        await audit.record(session, ACTOR, f"rollout.{row.phase}", row.id, decision.because, stage=row.stage)


async def tick(context: Context) -> int:
    """Move every unfinished rollout one step, remembering nothing."""
    return await Keeper(context).tick()
