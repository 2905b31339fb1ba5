"""`fleetloop doctor`: what may be wrong with an installation, and what to do about each."""

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

import httpx
from pydantic import BaseModel

from control_plane.cli.connection import NoServer, client, resolve, running_home, stack_of
from control_plane.cli.home import default_home
from control_plane.client import ClientError, Forbidden
from control_plane.kit.errors import Problem
from control_plane.registry.schemas import TrustItem

API_VERSION = "1"
ASK_S = 5.0
SKEW_WARN_S, SKEW_BROKEN_S = 5.0, 60.0
FREE_WARN, FREE_BROKEN = 5 << 30, 1 << 30
SOON = timedelta(days=7)
AGAIN = timedelta(hours=1)
"""The worker signs online roles again long before they expire: one that is this close was forgotten."""
OFFLINE = frozenset({"root", "targets"})


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    BROKEN = "broken"


class Check(BaseModel):
    """One thing that was looked at; `advice` says what to do where it is not ok."""

    name: str
    state: State
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Look at everything that can be looked at; what needs a server is left out where none answers."""
    return [*_of_control_plane(), check_disk(running_home() or default_home()), check_prefect()]


def _of_control_plane() -> list[Check]:
    try:
        url, _ = resolve("admin")
    except (NoServer, Problem) as error:
        advice = "start one with 'fleetloop up', or 'fleetloop context add' one that runs elsewhere"
        return [Check(name="server", state=State.BROKEN, found=str(error), advice=advice)]
    server = check_server(url)
    more = [] if server.state is State.BROKEN else [*_of_server(url), check_token(), check_trust()]
    return [server, *more]


def check_server(url: str) -> Check:
    answer = _ask(f"{url}/healthz")
    if isinstance(answer, str):
        return Check(
            name="server",
            state=State.BROKEN,
            found=f"{url}: {answer}",
            advice="start it with 'fleetloop up', or see 'fleetloop context list' for where commands go",
        )
    state = State.OK if answer.is_success else State.BROKEN
    advice = "" if answer.is_success else "something else answers there; check the address and the proxy before it"
    return Check(name="server", state=state, found=f"{url} answers {answer.status_code}", advice=advice)


def _ask(url: str) -> httpx.Response | str:
    """Return the answer, or why there is none."""
    try:
        return httpx.get(url, timeout=ASK_S)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return f"no answer ({type(error).__name__}: {error})"


def _of_server(url: str) -> Iterator[Check]:
    begun, answer = time.time(), _ask(f"{url}/readyz")
    if isinstance(answer, str):
        yield Check(name="database", state=State.BROKEN, found=answer, advice="look into the API's log")
        return
    yield check_ready(answer)
    yield check_clock(answer.headers.get("Date"), (begun + time.time()) / 2)
    yield check_version(_ask(f"{url}/api/openapi.json"))


def check_ready(answer: httpx.Response) -> Check:
    if answer.status_code == 200:
        return Check(name="database", state=State.OK, found="the API reaches PostgreSQL")
    advice = "is PostgreSQL up, and FLEETLOOP_DATABASE_URL right? the API's log says what it hears"
    return Check(name="database", state=State.BROKEN, found=f"/readyz answers {answer.status_code}", advice=advice)


def check_clock(date: str | None, here: float) -> Check:
    """Compare the server's Date (whole seconds) with this machine's clock; signatures and tokens depend on it."""
    if date is None:
        return Check(name="clock", state=State.WARN, found="the server sends no Date", advice="check it by hand")
    skew = parsedate_to_datetime(date).timestamp() + 0.5 - here
    state = State.BROKEN if abs(skew) > SKEW_BROKEN_S else State.WARN if abs(skew) > SKEW_WARN_S else State.OK
    advice = "" if state is State.OK else "let both machines follow a time server (chrony, systemd-timesyncd)"
    return Check(name="clock", state=state, found=f"the server is {skew:+.1f} s from here", advice=advice)


def check_version(answer: httpx.Response | str) -> Check:
    ours = version("fleetloop")
    try:
        theirs = "?" if isinstance(answer, str) else str(answer.json()["info"]["version"])
    except (ValueError, KeyError, TypeError):
        theirs = "?"
    state = State.OK if theirs == API_VERSION else State.WARN
    advice = "" if state is State.OK else "install the version of fleetloop that the server runs"
    return Check(name="version", state=state, found=f"fleetloop {ours}; the server's API is v{theirs}", advice=advice)


def check_token() -> Check:
    """Ask for something that only an admin may see: the refusal says who we are."""
    try:
        client("admin").list_tokens()
    except Forbidden as error:
        return Check(name="token", state=State.OK, found=error.detail.partition(";")[0])
    except ClientError as error:
        advice = "get a new one: 'fleetloop tokens create', or the files in the home's tokens/ folder"
        return Check(name="token", state=State.BROKEN, found=f"{error.code}: {error.detail}", advice=advice)
    return Check(name="token", state=State.OK, found="admin")


def check_trust() -> Check:
    try:
        return judge_trust(client("admin").get_trust(), datetime.now(UTC))
    except ClientError as error:
        return Check(name="trust", state=State.WARN, found=error.detail, advice="the token must be allowed to read")


def judge_trust(trust: TrustItem, now: datetime) -> Check:
    """Judge the TUF repository: devices refuse what is expired."""
    if not trust.ready:
        advice = "make keys with 'fleetloop keys init'; until then no device accepts a release"
        return Check(name="trust", state=State.BROKEN, found="there is no root of trust", advice=advice)
    expired = [role.role for role in trust.roles if role.expires_at <= now]
    if expired:
        advice = "root, targets: 'fleetloop keys renew'; all others: is the worker running? see docs/runbooks/keys.md"
        return Check(name="trust", state=State.BROKEN, found=f"expired: {', '.join(expired)}", advice=advice)
    soon = [role.role for role in trust.roles if role.expires_at <= now + (SOON if role.role in OFFLINE else AGAIN)]
    told = [alarm.because for alarm in trust.alarms] + [f"{name} expires soon" for name in soon]
    if told:
        return Check(name="trust", state=State.WARN, found="; ".join(told), advice="see docs/runbooks/keys.md")
    first = min((role.expires_at for role in trust.roles), default=now)
    return Check(
        name="trust", state=State.OK, found=f"revision {trust.revision}, fresh until {first:%Y-%m-%d %H:%M} UTC"
    )


def check_disk(home: Path) -> Check:
    folder = home if home.exists() else Path()
    free = shutil.disk_usage(folder).free
    state = State.BROKEN if free < FREE_BROKEN else State.WARN if free < FREE_WARN else State.OK
    advice = "" if state is State.OK else "make room: recordings in objects/ and logs/ grow"
    return Check(name="disk", state=state, found=f"{free / 2**30:.1f} GiB free for {home}", advice=advice)


def check_prefect(ask: Callable[[str], httpx.Response | str] = _ask) -> Check:
    """Look for Prefect where `fleetloop up` started it; without it runs wait, and nothing else does."""
    home = running_home()
    url = stack_of(home).get("prefect") if home else None
    if url is None:
        return Check(name="prefect", state=State.OK, found="none was started by 'fleetloop up' here")
    answer = ask(f"{url}/api/health")
    if not isinstance(answer, str) and answer.is_success:
        return Check(name="prefect", state=State.OK, found=f"{url} is healthy")
    advice = "runs that are asked for wait until it is back; see logs/prefect.log in the home"
    found = answer if isinstance(answer, str) else f"{url} answers {answer.status_code}"
    return Check(name="prefect", state=State.WARN, found=found, advice=advice)
