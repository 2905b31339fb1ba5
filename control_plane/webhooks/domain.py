"""What can be told, where it may go, when it is tried again, and when nobody seems to listen any more. Nothing else.

An address is judged as what it is in the end: v4 inside v6 in any of its forms counts as not reachable from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from control_plane.kit.addresses import METADATA, is_never_reached
from control_plane.kit.errors import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 500
MAX_ATTEMPTS = 8
FIRST_DELAY_S, LONGEST_DELAY_S = 10.0, 3600.0
MOST_FAILURES = 25
"""Attempts that may fail in a row, over all deliveries, before nobody is tried any more."""
PATIENT_ATTEMPTS, PATIENT_DELAY_S = 2500, 300.0
PASSING = frozenset({401, 403, 404, 408, 425, 429})
"""Refusals that a receiver's keeper can put right: a token, an address, a load."""
MAX_NOTE = 300
PUBLIC_V6 = ip_network("2000::/3")
TUNNELS = (ip_network("2001::/32"), ip_network("2002::/16"))
"""Teredo and 6to4: v4 addresses in the clothes of v6."""


class Topic(StrEnum):
    ROLLOUT_HALTED = "rollout.halted"
    ROLLOUT_HELD = "rollout.held"
    ROLLOUT_DONE = "rollout.done"
    REVIEW_ASKED = "review.asked"
    GATE_FAILED = "gate.failed"
    RUN_FAILED = "run.failed"
    DEVICE_QUARANTINED = "device.quarantined"
    TRUST_ALARM = "trust.alarm"


TEST = "test"


class State(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Rules:
    """Where webhooks may go beyond the public internet: `networks`; plain HTTP only to this machine, for trials.

    `stated`: the URL is a setting of whoever runs the installation, and leads wherever it leads, but to credentials.
    """

    networks: tuple[Network, ...] = ()
    http_loopback: bool = False
    stated: bool = False

    @classmethod
    def read(cls, networks: str, *, http_loopback: bool) -> "Rules":
        """Read comma-separated CIDRs.

        Raises:
            ValueError: one is none.
        """
        found = tuple(ip_network(part.strip()) for part in networks.split(",") if part.strip())
        return cls(found, http_loopback)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL points; `host` is as the certificate and the Host header name it."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        usual = {"https": 443, "http": 80}[self.scheme]
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == usual else f"{name}:{self.port}"


class Outside(Invalid):
    """A place webhooks do not go to; the sentence says why."""

    code = "webhook_outside"


def read_url(url: str, rules: Rules) -> Target:
    """Read a subscription's URL.

    Raises:
        Outside: webhooks do not go there, whatever its name stands for.
    """
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or any(sign in url for sign in " \\"):
        raise Outside(f"a URL has at most {MAX_URL} plain signs; write other names in their xn-- form")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Outside("this is no URL") from error
    if parts.scheme != "https" and not (parts.scheme == "http" and (rules.http_loopback or rules.stated)):
        raise Outside("webhooks go by https only")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise Outside("a URL here has neither a user nor a fragment; what is signed needs no password")
    if not parts.hostname or port == 0:
        raise Outside("this URL names no host")
    query = f"?{parts.query}" if parts.query else ""
    return Target(
        parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), f"{parts.path or '/'}{query}"
    )


def choose(target: Target, addresses: Sequence[str], rules: Rules) -> str:
    """Return the address to connect to: the first, if a webhook may go to every one of them.

    Raises:
        Outside: it may not, or there is none.
    """
    if not addresses:
        raise Outside(f"{target.host} has no address")
    for text in addresses:
        address = ip_address(text.split("%")[0])
        if rules.stated:
            allowed = not is_never_reached(address)
        else:
            allowed = address.is_loopback if target.scheme == "http" else may_reach(address, rules)
        if not allowed:
            raise Outside(f"{target.host} stands for {address}, which is not on the public internet")
    return addresses[0]


def may_reach(address: Address, rules: Rules) -> bool:
    """Say whether a webhook may go to an address: a public one, or in a network that a setting names.

    Link-local addresses, and those where clouds keep a machine's credentials, are never reached.
    """
    if address in METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if any(address in network for network in rules.networks):
        return True
    if isinstance(address, IPv4Address):
        return address.is_global
    return address.is_global and address in PUBLIC_V6 and not any(address in tunnel for tunnel in TUNNELS)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt; `status` is None where there was no answer, and `note` says why."""

    status: int | None
    note: str
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a delivery and its webhook; `disable` says why the webhook is tried no more."""

    state: State
    delay_s: float
    failures: int
    note: str
    disable: str | None


def weigh(answer: Answer, attempts: int, failures: int, jitter: float) -> Outcome:
    """Decide what comes after an attempt, the `attempts`-th of its delivery; `jitter` is a number from 0 to 1."""
    if answer.status is not None and 200 <= answer.status < 300:
        return Outcome(State.DELIVERED, 0.0, 0, "", None)
    failures += 1
    note = (answer.note or f"answered {answer.status}")[:MAX_NOTE]
    disable = None
    if failures >= MOST_FAILURES:
        disable = f"{failures} attempts in a row failed, the last one: {note}"
    state = State.FAILED if attempts >= MAX_ATTEMPTS else State.WAITING
    return Outcome(state, delay_s(attempts, jitter), failures, note, disable)


def weigh_patiently(answer: Answer, attempts: int, failures: int, jitter: float) -> Outcome:
    """Decide as `weigh`, for a receiver that is nobody's subscription: it is never given up, only what it refuses is.

    For a week an event is tried at least every five minutes; one that is refused as such (4xx) has the usual attempts.
    """
    found = weigh(answer, attempts, failures, jitter)
    if found.state is State.DELIVERED:
        return found
    refused = answer.status is not None and 400 <= answer.status < 500 and answer.status not in PASSING
    most = MAX_ATTEMPTS if refused else PATIENT_ATTEMPTS
    state = State.FAILED if attempts >= most else State.WAITING
    return replace(found, state=state, delay_s=min(found.delay_s, PATIENT_DELAY_S), disable=None)


def delay_s(attempts: int, jitter: float) -> float:
    """Return how long to wait after the n-th failed attempt: four times as long each time, half of it by chance."""
    whole = min(FIRST_DELAY_S * 4.0 ** (min(attempts, 20) - 1), LONGEST_DELAY_S)
    return whole * (0.5 + 0.5 * min(max(jitter, 0.0), 1.0))
