"""The shell around the machine: look, decide, write the journal, then act. It holds no rule of its own.

Long work (fetching, qualifying) runs as one task beside the loop; its outcome is something that the next look sees.
Whatever fails for now is seen as trouble and tried again after a backoff.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from agents.link import Backoff, LinkError
from agents.protocol.v1 import DeploymentPhase, DeploymentReport
from agents.protocol.v1.safe_state import SITE_GRANT_S
from agents.update.effects import Effects, Release
from agents.update.journal import Journal
from agents.update.machine import Action, Decision, Policy, Seen, Slot, Target, decide, shadow_s
from agents.update.qualify import HeldError, ShadowVerdict, Verdict
from agents.update.safety import Safety
from agents.update.slots import DamagedError
from agents.update.trust import Order, RefusedError

SETTLED: Final = frozenset(
    {DeploymentPhase.IDLE, DeploymentPhase.COMMITTED, DeploymentPhase.REVERTED, DeploymentPhase.REFUSED}
)
_HEARS_HEALTH: Final = SETTLED - {DeploymentPhase.REVERTED} | {DeploymentPhase.TRIAL, DeploymentPhase.DOWNLOADING}
_STEPS_MAX: Final = 50
# After a shadow without evidence the device is left alone for a while before the next one.
_HELD_S: Final = 600.0


@dataclass
class _Findings:
    """What was found out about the present target in this process."""

    release: Release | None = None
    complete: bool = False
    verdict: Verdict | None = None
    shadow: ShadowVerdict | None = None
    refusal: RefusedError | None = None
    trouble: tuple[str, str] | None = None
    retry_at_s: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.5, 60.0))


class UpdateLoop:
    """`wake` is set when there is something new to look at; `settled` while only that can change anything."""

    def __init__(
        self,
        journal: Journal,
        effects: Effects,
        running: Slot | None,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
        safety: Safety | None = None,
    ) -> None:
        self._journal, self._effects, self._policy, self._clock = journal, effects, policy or Policy(), clock
        self.state = journal.read(running)
        self.because = "started"
        self.settled = False
        self.wake = asyncio.Event()
        self._order: Order | None = None
        self._order_until_s = self._asked_at_s = 0.0
        self._damaged: frozenset[tuple[str, int, str]] = frozenset()
        self._revoked: frozenset[str] = frozenset()
        self._just_started = True
        self._trial_since_s = clock()
        self._found = _Findings()
        self._task: asyncio.Task[None] | None = None
        self._safety = safety or Safety()

    async def check_slots(self) -> None:
        """Verify what is installed; to be called once, before the first `advance`."""
        self._damaged = await asyncio.to_thread(self._effects.damaged, self.state)

    def ordered(self, order: Order, asked_at_s: float) -> None:
        """Take over a trusted order; its life counts from when it was asked for."""
        changed = self._order is None or self._order.target != order.target
        self._order, self._order_until_s, self._asked_at_s = order, asked_at_s + order.life_s, asked_at_s
        if changed or not self.settled:
            self.wake.set()

    def revoke(self, digests: frozenset[str]) -> None:
        """Take over which contents and releases must not run."""
        if digests != self._revoked:
            self._revoked = digests
            self.wake.set()

    async def advance(self) -> None:
        """Go as far as can be gone now."""
        self.wake.clear()
        for _ in range(_STEPS_MAX):
            before = self.state
            decision = decide(before, self._look(), self._policy)
            try:
                await self._take_over(decision)
            except OSError as error:
                # The journal does not know of it, so nothing is done about it.
                self._has_trouble("disk_error", str(error))
                return
            self.settled = decision.state.phase in SETTLED and not decision.actions
            acted = [await self._act(action) for action in decision.actions]
            if decision.state == before and not any(acted):
                return

    async def close(self) -> None:
        await self._stop_task()
        self._journal.close()

    def running(self) -> Slot | None:
        """Return what really runs: the link's bundle, not what is still to be switched to."""
        active = self.state.active
        return active if active is not None and self._effects.linked() == active.link else None

    def report(self) -> DeploymentReport | None:
        """Return what the server should know about the release it ordered last."""
        state = self.state
        if state.target is None:
            return None
        return DeploymentReport(
            release_digest=state.target.release_digest,
            counter=state.target.counter,
            rollout_id=state.target.rollout_id,
            phase=state.phase,
            reason=state.reason,
            detail=state.detail[:500],
            qualification=dict(state.qualification),
        )

    def _look(self) -> Seen:
        found, state, order = self._found, self.state, self._order
        trouble, detail = found.trouble or (None, "")
        linked = self._effects.linked()
        return Seen(
            order=order.target if order else None,
            order_known=order is not None,
            order_fresh=order is not None and self._clock() < self._order_until_s,
            link=linked,
            damaged=self._damaged,
            revoked=self._revoked,
            content_digest=found.release.manifest.content_digest if found.release else None,
            complete=found.complete,
            refusal=found.refusal.reason if found.refusal else None,
            refusal_detail=str(found.refusal or ""),
            trouble=trouble,
            trouble_detail=detail,
            staged=self._is_staged(),
            qualified=found.verdict.ok if found.verdict else None,
            qualification=found.verdict.numbers if found.verdict else {},
            qualification_reason=found.verdict.reason if found.verdict else "",
            doing=self._effects.doing() if state.phase is DeploymentPhase.QUALIFYING else None,
            **_shadow_seen(found.shadow),
            safe_to_switch=self._safe() if state.phase is DeploymentPhase.ARMED else True,
            waits_for=self._waits_for() if state.phase is DeploymentPhase.ARMED else (),
            site_free=self._site_free(),
            **(self._health() if state.phase in _HEARS_HEALTH else {}),
            trial_elapsed_s=self._clock() - self._trial_since_s,
            just_started=self._just_started,
        )

    def _is_staged(self) -> bool:
        candidate = self.state.candidate
        return candidate is not None and candidate.link not in self._damaged and self._effects.staged(candidate)

    def _safe(self) -> bool:
        # No word on motion: no application has ever run here, so there is nothing to disturb.
        motion = self._effects.motion()
        return motion is None or motion.safe_to_switch

    def _waits_for(self) -> tuple[str, ...]:
        target = self._target()
        ordered = target.safe_state if target else None
        return self._safety.waits_for(self._policy.safe_state, ordered)

    def _site_free(self) -> bool:
        """Tell whether the site's budget lets this device out; the server's yes is for this device and for now."""
        target = self._target()
        if target is None or target.site_free is None:
            return True
        return target.site_free and self._clock() - self._asked_at_s < SITE_GRANT_S

    def _health(self) -> dict[str, Any]:
        health, active = self._effects.health(), self.state.active
        if health is None or active is None or health.content_digest != active.content_digest:
            return {}
        return {"health": health.ok, "health_reason": health.reason}

    async def _take_over(self, decision: Decision) -> None:
        before = self.state
        if decision.state != before:
            await asyncio.to_thread(self._journal.write, decision.state, decision.because)
            self.state, self.because = decision.state, decision.because
        # A repaired link is no look at the phase: the restart still has to be counted.
        if decision.state != before or Action.SWITCH not in decision.actions:
            self._just_started = False
        if decision.state.target != before.target:
            await self._stop_task()
            self._found = _Findings()
        elif before.phase is DeploymentPhase.SHADOW and decision.state.phase is not DeploymentPhase.SHADOW:
            # What ends a shadow from outside (a revoked or damaged slot, another policy) ends its process too.
            await self._stop_task()
            self._found.trouble = None

    async def _act(self, action: Action) -> bool:
        """Carry out one action; return whether the world may look different now."""
        if action is Action.FETCH:
            return self._begin(self._fetch)
        if action is Action.QUALIFY:
            return self._begin(self._qualify)
        if action is Action.SHADOW:
            return self._begin(self._shadow)
        if self._clock() < self._found.retry_at_s and action is not Action.SWITCH:
            return False
        try:
            await self._act_now(action)
        except DamagedError as error:
            self._damaged |= {error.slot.link}
        except OSError as error:
            self._has_trouble("disk_error", str(error))
            return False
        return action is not Action.COLLECT

    async def _act_now(self, action: Action) -> None:
        if action is Action.SWITCH:
            await asyncio.to_thread(self._effects.switch, self.state.active)
            self._trial_since_s = self._clock()
        elif action is Action.COLLECT:
            await asyncio.to_thread(self._effects.collect)
        elif self.state.candidate is not None:
            slot = self.state.candidate
            try:
                await asyncio.to_thread(self._effects.stage, slot)
            except FileNotFoundError:
                self._found.complete, self._found.release = False, None
                raise
            self._damaged -= {slot.link}
            self._found.trouble = None

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        if (self._task is None or self._task.done()) and self._clock() >= self._found.retry_at_s:
            self._task = asyncio.get_running_loop().create_task(self._guarded(work))
        return False

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except RefusedError as error:
            self._found.refusal = error
        except LinkError as error:
            self._has_trouble(error.reason, str(error), error.retry_after_s)
        except HeldError as error:
            self._has_trouble(error.reason, str(error), _HELD_S)
        except OSError as error:
            self._has_trouble("disk_error", str(error))
        else:
            self._found.backoff.succeeded()
            self._found.trouble = None
        # The task counts as done only after this returns; the loop looks again then.
        asyncio.get_running_loop().call_soon(self.wake.set)

    async def _fetch(self) -> None:
        found, target = self._found, self._target()
        if target is None:
            return
        if found.release is None:
            found.release = await self._effects.fetch_release(target)
        else:
            await self._effects.fetch_files(found.release)
            found.complete = True

    def _target(self) -> Target | None:
        """Return the target as it was ordered last: its stage may be wider by now."""
        order = self._order.target if self._order else None
        return order if order == self.state.target else self.state.target

    async def _qualify(self) -> None:
        found, slot = self._found, self.state.candidate
        if slot is not None:
            found.verdict = await self._effects.qualify(slot)

    async def _shadow(self) -> None:
        slot, active = self.state.candidate, self.state.active
        if slot is None or active is None:
            return
        verdict = await self._effects.shadow(slot, active, shadow_s(self.state.target, self._look(), self._policy))
        if verdict.outcome == "held":
            raise HeldError(verdict.reason, verdict.detail)
        self._found.shadow = verdict

    def _has_trouble(self, reason: str, detail: str, retry_after_s: float | None = None) -> None:
        self._found.trouble = (reason, detail[:300])
        self._found.retry_at_s = self._clock() + self._found.backoff.failed(retry_after_s)

    async def _stop_task(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _shadow_seen(verdict: ShadowVerdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    said = {"shadow": verdict.numbers, "shadow_reason": verdict.reason, "shadow_detail": verdict.detail}
    return {"shadow_passed": verdict.outcome == "passed", **said}
