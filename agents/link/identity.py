"""Who this device is: enrolment, and what it learnt there. The private key stays with `keys`."""

from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from agents.link.client import DeviceClient
from agents.link.credentials import CA_BYTES, Credentials, fetch_ca, pinned_context
from agents.link.errors import LinkError
from agents.link.keys import DeviceKey
from agents.protocol.v1 import EnrolReply, EnrolRequest, canonical_json, enrol_proof, sha256_hex, strict_json
from agents.sdk.files import read_bounded, write_whole
from agents.sdk.layout import StateDir

AGENT_VERSION: Final = "0.1.0"
_MAX_BYTES: Final = 64 << 10


class Enrolment(BaseModel):
    """What `enrolment.json` holds: where to enrol, with which single-use token, as what."""

    model_config = ConfigDict(frozen=True, defer_build=True)
    server: str
    token: SecretStr
    serial: str
    device_class: str
    site: str
    labels: dict[str, str] = Field(default_factory=dict)
    trust_root_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    ca_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    ca_pem: str | None = Field(default=None, max_length=CA_BYTES)


_SERVER_ONLY: Final = {"server", "token", "trust_root_sha256", "ca_sha256", "ca_pem"}


class Identity(BaseModel):
    """What enrolment gave: the pinned director keys decide from now on whose orders count."""

    model_config = ConfigDict(frozen=True, defer_build=True)
    server: str
    device_id: str
    director_keys: tuple[str, ...] = Field(min_length=1)
    certificate_pem: str | None = None
    device_class: str
    site: str

    @classmethod
    def load(cls, state: StateDir) -> "Identity | None":
        data = read_bounded(_path(state), _MAX_BYTES)
        return None if data is None else cls.model_validate(strict_json(data, _MAX_BYTES))


def load_key(state: StateDir) -> DeviceKey:
    return DeviceKey.load_or_make(state.private / "key.pem")


def read_enrolment(state: StateDir) -> Enrolment | None:
    data = read_bounded(state.enrolment_json, _MAX_BYTES)
    return None if data is None else Enrolment.model_validate(strict_json(data, _MAX_BYTES))


async def enrol(http: httpx.AsyncClient, state: StateDir, wish: Enrolment) -> Identity:
    """Enrol once; a repeat after a lost answer uses the same key, so the server can recognise it.

    Raises:
        LinkError: the server refused or could not be reached.
    """
    key = load_key(state)
    token = wish.token.get_secret_value()
    request = EnrolRequest(
        token=token,
        public_key_pem=key.public_pem,
        proof=key.sign(enrol_proof(token, key.public_pem)),
        agent_version=AGENT_VERSION,
        csr_pem=key.csr_pem(),
        **wish.model_dump(exclude=_SERVER_ONLY),
    )
    credentials = Credentials(state.private)
    await _pin_authority(credentials, wish)
    client = DeviceClient(http, wish.server, key, None, credentials=credentials)
    try:
        reply = await client.post("enrol", request.model_dump_json().encode(), EnrolReply)
    finally:
        await client.aclose()
    if reply.certificate_pem is not None:
        credentials.store(reply.certificate_pem, reply.ca_pem if credentials.pinned else None)
    _pin_root(state, wish, reply.trust_root)
    identity = Identity(
        server=wish.server,
        device_class=wish.device_class,
        site=wish.site,
        **reply.model_dump(include={"device_id", "director_keys", "certificate_pem"}),
    )
    _store(state, identity, wish)
    return identity


def open_client(http: httpx.AsyncClient, state: StateDir, identity: Identity) -> DeviceClient:
    """Return the enrolled device's client, with TLS of its own where the server speaks TLS; close it with `aclose`."""
    credentials = Credentials(state.private)
    return DeviceClient(http, identity.server, load_key(state), identity.device_id, credentials=credentials)


async def _pin_authority(credentials: Credentials, wish: Enrolment) -> None:
    """Learn whom to believe from what the operator gave, before anything secret is said; else the trust store says."""
    if not wish.server.startswith("https:") or credentials.pinned:
        return
    if wish.ca_pem is not None:
        pinned_context(wish.ca_pem)
        write_whole(credentials.ca, wish.ca_pem.encode(), durable=True)
    elif wish.ca_sha256 is not None:
        write_whole(credentials.ca, (await fetch_ca(wish.server, wish.ca_sha256)).encode(), durable=True)


def _pin_root(state: StateDir, wish: Enrolment, root: str | None) -> None:
    """Keep the root of trust that everything else is judged by from now on; the first one stays."""
    path = root_path(state)
    if path.exists():
        return
    if root is None:
        raise LinkError("no_trust_root", "the server gave no root of trust; run 'fleetloop keys init' there")
    if wish.trust_root_sha256 not in (None, sha256_hex(root.encode())):
        raise LinkError("wrong_trust_root", "the server's root of trust is not the one that the operator pinned")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, root.encode(), durable=True, mode=0o600)


def root_path(state: StateDir) -> Path:
    return state.private / "trust" / "root.json"


def _store(state: StateDir, identity: Identity, wish: Enrolment) -> None:
    write_whole(_path(state), canonical_json(identity.model_dump(mode="json")), durable=True, mode=0o600)
    public: dict[str, Any] = {
        "device_id": identity.device_id,
        **wish.model_dump(exclude=_SERVER_ONLY),
    }
    # Last: the application starts when it sees this file.
    write_whole(state.device_json, canonical_json(public), durable=True)


def _path(state: StateDir) -> Path:
    return state.private / "identity.json"
