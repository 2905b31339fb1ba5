"""Recordings to the server: announce, upload, complete; what the server declines is never uploaded.

One that the server refuses does not hold up the others: it is *rejected*, with the reason, and tried again as the
policy says. One that is too big for a metered network or a hot device waits, and the others go on.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agents.capture.courtesy import Courtesy, Now, why_wait
from agents.capture.outbox import DECLINED, DROPPED, KEPT, REJECTED, UPLOADED, Outbox
from agents.capture.triggers import Bounds, CaptureRules, Waiting, choose
from agents.link import Backoff, LinkError, Uploader
from agents.protocol.v1 import RecordingAnnounce, RecordingReply, RecordingState

_LOOK_S: Final = 2.0
_DONE: Final = frozenset({UPLOADED, DECLINED, DROPPED})


@dataclass(frozen=True)
class Retry:
    """What was refused is tried again after `after_s` in which the device ran, `tries` times in all."""

    after_s: float = 86400.0
    tries: int = 3


class RecordingSender:
    """`dropped` counts what rules, rate limits and bounds gave up since the start; `held` what waits, by reason."""

    def __init__(
        self,
        uploader: Uploader,
        outbox: Outbox,
        rules: CaptureRules | None = None,
        bounds: Bounds | None = None,
        *,
        courtesy: Courtesy | None = None,
        now: Callable[[], Now] = Now,
        retry: Retry | None = None,
    ) -> None:
        self._uploader, self._outbox = uploader, outbox
        self._rules, self._bounds = rules or CaptureRules(), bounds or Bounds()
        self._courtesy, self._now, self._retry = courtesy or Courtesy(), now, retry or Retry()
        self.held: Counter[str] = Counter()
        self._backoff = Backoff(1.0, 300.0)
        self.waiting_files = 0
        self.waiting_bytes = 0
        self.dropped = 0
        self.last_error: str | None = None

    async def send_once(self) -> float:
        """Send everything that waits, best first; return the seconds until the next look."""
        found = await asyncio.to_thread(self._look)
        self.held = Counter()
        try:
            for announce in found:
                # Asked for each: a device may get hot, or leave its Wi-Fi, while it sends.
                reason = why_wait(announce.size_bytes, self._now(), self._courtesy)
                if reason is None:
                    await self._send_or_reject(announce)
                    self.waiting_files -= 1
                    self.waiting_bytes -= announce.size_bytes
                else:
                    self.held[reason] += 1
        except LinkError as error:
            self.last_error = str(error)
            return self._backoff.failed(error.retry_after_s)
        self._backoff.succeeded()
        self.last_error = None
        return self._backoff.spread(_LOOK_S)

    def _look(self) -> list[RecordingAnnounce]:
        waiting = self._outbox.waiting()
        self.waiting_files = self.waiting_bytes = 0
        if not waiting:
            return []
        states = {sha256: self._outbox.state(sha256) for sha256 in waiting}
        fresh = [each for each, _ in waiting.values() if states[each.sha256] is None]
        accepted = [each for each, _ in waiting.values() if states[each.sha256] in {KEPT, REJECTED}]
        for sha256 in set(waiting) - {each.sha256 for each in (*fresh, *accepted)}:
            self._outbox.remove(sha256)
        send = self._chosen(fresh, accepted)
        self.waiting_files, self.waiting_bytes = len(send), sum(each.size_bytes for each in send)
        due = [each for each in send if states[each.sha256] != REJECTED or self._outbox.is_due(each.sha256)]
        return [waiting[each.sha256][1] for each in due]

    def _chosen(self, fresh: list[Waiting], accepted: list[Waiting]) -> list[Waiting]:
        """Rate limits judge what is new; bounds judge all that waits."""
        first = choose(fresh, self._outbox.kept_ages_s(), self._rules, self._bounds)
        every = choose([*accepted, *first.send], {}, _without_rates(self._rules), self._bounds)
        kinds = {each.sha256: each.kind for each in (*fresh, *accepted)}
        for sha256, reason in {**first.drop, **every.drop}.items():
            self._outbox.remember(sha256, kinds[sha256], DROPPED, reason)
            self._outbox.remove(sha256)
            self.dropped += 1
        for each in first.send:
            if each.sha256 not in every.drop:
                self._outbox.remember(each.sha256, each.kind, KEPT)
        return list(every.send)

    async def _send_or_reject(self, announce: RecordingAnnounce) -> None:
        try:
            await self._send(announce)
        except LinkError as error:
            if not error.refused:
                raise
            reason = f"{error.reason}: {error}"
            tries = self._outbox.rejected(announce.sha256, announce.trigger, reason, self._retry.after_s)
            if tries >= self._retry.tries:
                self._outbox.remember(announce.sha256, announce.trigger, DROPPED, f"refused for good, {reason}")
                self._outbox.remove(announce.sha256)
                self.dropped += 1

    async def _send(self, announce: RecordingAnnounce) -> None:
        reply = await self._uploader.announce(announce)
        if reply.state is RecordingState.WANTED:
            if reply.upload_url is None:
                raise LinkError("bad_answer", "the recording is wanted, but nowhere")
            path = self._outbox.path(announce.sha256)
            await self._uploader.put(path, announce.sha256, announce.size_bytes, reply.upload_url)
            reply = await self._uploader.complete(announce.sha256)
        self._settle(announce, reply)

    def _settle(self, announce: RecordingAnnounce, reply: RecordingReply) -> None:
        if reply.state is RecordingState.WANTED:
            raise LinkError("incomplete", f"the server still wants {announce.sha256[:12]}: {reply.reason[:100]}")
        state = DECLINED if reply.state is RecordingState.DECLINED else UPLOADED
        self._outbox.remember(announce.sha256, announce.trigger, state, reply.reason)
        self._outbox.remove(announce.sha256)


def _without_rates(rules: CaptureRules) -> CaptureRules:
    unlimited = 1 << 30
    kinds = {name: type(rule)(rule.priority, unlimited, rule.keep) for name, rule in rules.kinds.items()}
    return CaptureRules(kinds, type(rules.otherwise)(rules.otherwise.priority, unlimited, rules.otherwise.keep))
