"""What agents of one process share, and how one device's update is put together from its parts."""

from dataclasses import dataclass
from typing import Final

import httpx

from agents.inference import DeviceQualifier, DeviceShadow, QualifierPool, Surroundings
from agents.link import BlobStore, DeviceClient, Downloader
from agents.link.credentials import Credentials
from agents.link.identity import Identity, root_path
from agents.main.configuration import Configuration
from agents.main.safety import Present
from agents.platform import PlatformFacts
from agents.sdk.layout import StateDir
from agents.sdk.signals import Signals
from agents.update import (
    Anchor,
    DeviceRepository,
    Journal,
    Safety,
    SignedByAll,
    Slots,
    Trust,
    TufProcess,
    UpdateEffects,
    UpdateLoop,
)

JOURNAL: Final = "journal.db"


@dataclass(frozen=True)
class Shared:
    """One HTTP client, one process that qualifies, one that talks TUF, whatever the number of agents."""

    http: httpx.AsyncClient
    pool: QualifierPool
    tuf: TufProcess

    async def close(self) -> None:
        await self.pool.close()
        await self.tuf.close()
        await self.http.aclose()


@dataclass(frozen=True)
class Parts:
    """One device's update, its trust, its downloads, and why an earlier journal was put aside, if it was."""

    update: UpdateLoop
    trust: Trust
    downloader: Downloader
    recovered: str | None
    present: Present


def open_parts(
    state: StateDir,
    identity: Identity,
    client: DeviceClient,
    shared: Shared,
    configuration: Configuration,
    platform: PlatformFacts,
) -> Parts:
    blobs = BlobStore(state.blobs)
    blobs.prepare()
    slots = Slots(state, blobs)
    downloader = Downloader(client, blobs, configuration.download_limits())
    signals = Signals(state.signals)
    anchor = Anchor(root_path(state).parent)
    repository = DeviceRepository(shared.tuf, anchor, f"{client.route('tuf')}", Credentials(state.private).files())
    trust = Trust(anchor, repository, downloader)
    around = Surroundings(configuration.qualify, platform.meter, platform.now, state.private / "engines")
    qualifier = DeviceQualifier(shared.pool, around)
    effects = UpdateEffects(
        slots=slots,
        downloader=downloader,
        signals=signals,
        qualifier=qualifier,
        device_class=identity.device_class,
        trust=SignedByAll(trust, identity.device_class),
        shadow=DeviceShadow(state.signals, around),
        doing=qualifier.doing,
    )
    journal = Journal(state.private / JOURNAL)
    present = Present(
        platform.conditions, signals.motion, lambda: anchor.time_floor, metered=configuration.network_metered
    )
    update = UpdateLoop(journal, effects, slots.running(), configuration.policy(), safety=Safety(present))
    return Parts(update, trust, downloader, journal.recovered, present)
