"""The worker's part: scrape what is due, charge jobs what was measured, forget what is old. Outside any transaction."""

import asyncio
import time
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from control_plane.factory import service
from control_plane.factory.domain import ExporterKind, Reading, UnreadableError, read, read_exporter_url
from control_plane.kit import clock
from control_plane.kit.addresses import is_never_reached
from control_plane.kit.context import Context
from control_plane.kit.db import Row
from control_plane.kit.reach import Resolve, resolve

AT_ONCE = 16
SCRAPE_S = 5.0
MAX_BYTES = 8 << 20
TIDY_S, SETTLE_S = 3600.0, 15.0
ACCEPT = "text/plain;version=0.0.4"


class ScrapeError(RuntimeError):
    """Why an exporter's figures are not there; a sentence for people."""


class Scraper:
    """Several may run side by side: an exporter is claimed for each scrape."""

    def __init__(self, context: Context, *, look_up: Resolve = resolve) -> None:
        self._context, self._look_up = context, look_up
        self._tidy_at_s = self._settle_at_s = 0.0

    async def tick(self) -> int:
        """Scrape what is due; return how many answered."""
        database, settings = self._context.database, self._context.settings
        async with database.transaction() as session:
            claimed = await service.claim(session, AT_ONCE, settings.scrape_s)
        answered = await asyncio.gather(*(self._one(each) for each in claimed))
        if time.monotonic() >= self._settle_at_s:
            self._settle_at_s = time.monotonic() + SETTLE_S
            async with database.transaction() as session:
                await service.settle_uses(session, clock.now())
        if time.monotonic() >= self._tidy_at_s:
            async with database.transaction() as session:
                gone = await service.tidy(session, clock.now(), settings.retention_meters_days)
            self._tidy_at_s = time.monotonic() + (0.0 if gone else TIDY_S)
        return sum(answered)

    async def _one(self, exporter: Row) -> bool:
        said: Reading | str
        at_s = clock.now().timestamp()
        try:
            text = await scrape(exporter["url"], self._look_up)
            said = await asyncio.to_thread(read, text, ExporterKind(exporter["kind"]), at_s)
        except (ScrapeError, UnreadableError) as error:
            said = str(error)
        async with self._context.database.transaction() as session:
            await service.heard(session, exporter["id"], said, at_s)
        return isinstance(said, Reading)


async def scrape(url: str, look_up: Resolve = resolve) -> str:
    """Return what an exporter says; nobody else is asked, whatever it answers.

    Raises:
        ScrapeError: it does not answer in time, or not with a text of bounded size.
    """
    try:
        async with asyncio.timeout(SCRAPE_S):
            return (await _get(read_exporter_url(url), look_up)).decode("utf-8", "replace")
    except TimeoutError as error:
        raise ScrapeError(f"no whole answer within {SCRAPE_S:g} s") from error
    except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ScrapeError(f"{type(error).__name__}: {error}") from error


async def _get(url: str, look_up: Resolve) -> bytes:
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or {"https": 443, "http": 80}[parts.scheme]
    addresses = await look_up(host, port)
    if not addresses:
        raise ScrapeError(f"{host} has no address")
    for each in addresses:
        if is_never_reached(ip_address(each.split("%")[0])):
            raise ScrapeError(f"{host} stands for {each}, where no exporter is")
    place = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    path = f"{parts.path or '/metrics'}{f'?{parts.query}' if parts.query else ''}"
    headers = {
        "Host": parts.netloc,
        "Accept": ACCEPT,
        "Accept-Encoding": "identity",
        "User-Agent": "fleetloop-scrape/1",
    }
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=SCRAPE_S) as client,
        client.stream(
            "GET", f"{parts.scheme}://{place}:{port}{path}", headers=headers, extensions={"sni_hostname": host}
        ) as answer,
    ):
        return await _body(answer)


async def _body(answer: httpx.Response) -> bytes:
    if answer.status_code != 200:
        raise ScrapeError(f"answered {answer.status_code}" + "; redirects are not followed" * answer.is_redirect)
    if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise ScrapeError("the answer is compressed, which was not asked for")
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > MAX_BYTES:
            raise ScrapeError(f"the answer has more than {MAX_BYTES >> 20} MiB")
    return bytes(body)
