"""One attempt: the name is looked up once, its addresses judged, and the connection made to the very one judged.

A redirect is an answer like any other; nothing of an answer but its status is read.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping

import httpx

from control_plane.kit import clock
from control_plane.kit.reach import Resolve, resolve
from control_plane.webhooks.domain import Answer, Outside, Rules, Target, choose, read_url
from control_plane.webhooks.service.signing import HEADER, sign

ATTEMPT_S = 10.0


class Sender:
    """Sends webhooks by `rules`; `tls` is whom to believe, the usual authorities if none."""

    def __init__(self, rules: Rules, *, look_up: Resolve = resolve, tls: ssl.SSLContext | None = None) -> None:
        self._rules = rules
        self._look_up = look_up
        self._tls = tls or ssl.create_default_context()

    async def send(self, url: str, secret: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post a body and return what came of it; whatever goes wrong is an answer too."""
        began = time.monotonic()
        status, note = None, ""
        try:
            async with asyncio.timeout(ATTEMPT_S):
                target = read_url(url, self._rules)
                address = choose(target, await self._look_up(target.host, target.port), self._rules)
                signed = {HEADER: sign(secret, int(clock.now().timestamp()), body), **headers}
                status = await self._post(target, address, signed, body)
                note = "it leads elsewhere; redirects are not followed" if 300 <= status < 400 else ""
        except Outside as error:
            note = error.detail
        except TimeoutError:
            note = f"no answer within {ATTEMPT_S:g} s"
        except (OSError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            note = f"{type(error).__name__}: {error}"
        return Answer(status, note, round((time.monotonic() - began) * 1000))

    async def _post(self, target: Target, address: str, headers: Mapping[str, str], body: bytes) -> int:
        place = f"[{address}]" if ":" in address else address
        url = f"{target.scheme}://{place}:{target.port}{target.path}"
        said = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "User-Agent": "fleetloop-webhook/1",
            **headers,
        }
        async with (
            httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=ATTEMPT_S) as client,
            client.stream("POST", url, content=body, headers=said, extensions={"sni_hostname": target.host}) as answer,
        ):
            return answer.status_code
