"""What versions cost, as lines of a table: one figure in a column, and an interval in words."""

from typing import Self

from pydantic import BaseModel

from control_plane.rollout.schemas import CostItem, ModelBill, OtherCost, PreventedItem, VersionBill, VersionLedger


class BillLine(BaseModel):
    """A version; `prevented` is its interval, and the number itself where that is told apart from none."""

    model: str
    version: int
    content_digest: str
    usd: float
    energy_j: float
    episodes: int
    usd_per_1000_episodes: float | None
    energy_j_per_1000_episodes: float | None
    usd_until_promoted: float | None
    energy_j_until_promoted: float | None
    prevented: str
    usd_per_prevented: float | None
    energy_j_per_prevented: float | None
    training_usd: float
    training_energy_j: float
    simulation_usd: float
    gate_usd: float
    data_usd: float

    @classmethod
    def of(cls, bill: VersionBill) -> Self:
        return cls(
            model=bill.model,
            version=bill.version,
            content_digest=bill.content_digest,
            usd=bill.total.usd,
            energy_j=bill.total.energy_j,
            episodes=bill.episodes,
            usd_per_1000_episodes=_usd(bill.per_1000_episodes),
            energy_j_per_1000_episodes=_energy_j(bill.per_1000_episodes),
            usd_until_promoted=_usd(bill.until_promoted),
            energy_j_until_promoted=_energy_j(bill.until_promoted),
            prevented=in_words(bill.prevented),
            usd_per_prevented=_usd(bill.per_prevented),
            energy_j_per_prevented=_energy_j(bill.per_prevented),
            training_usd=bill.training.usd,
            training_energy_j=bill.training.energy_j,
            simulation_usd=bill.simulation.usd,
            gate_usd=bill.gate.usd,
            data_usd=bill.data.usd,
        )


class ModelBillLine(BaseModel):
    model: str
    versions: int
    promoted: int
    episodes: int
    usd: float
    energy_j: float
    usd_per_1000_episodes: float | None
    usd_per_promoted: float | None

    @classmethod
    def of(cls, bill: ModelBill) -> Self:
        return cls(
            model=bill.model,
            versions=bill.versions,
            promoted=bill.promoted,
            episodes=bill.episodes,
            usd=bill.total.usd,
            energy_j=bill.total.energy_j,
            usd_per_1000_episodes=_usd(bill.per_1000_episodes),
            usd_per_promoted=_usd(bill.per_promoted),
        )

    @classmethod
    def rest(cls, other: OtherCost) -> Self:
        """Return the line of what is on no version's bill."""
        return cls(
            model="(of no version)",
            versions=0,
            promoted=0,
            episodes=0,
            usd=other.usd,
            energy_j=other.energy_j,
            usd_per_1000_episodes=None,
            usd_per_promoted=None,
        )


def model_lines(found: VersionLedger) -> list[ModelBillLine]:
    """Return a line for each model, and one for what is on no version's bill, so that they add up to the ledger."""
    rest = found.of_no_version
    return [*map(ModelBillLine.of, found.models), *([ModelBillLine.rest(rest)] if rest and rest.jobs else [])]


def in_words(prevented: PreventedItem | None) -> str:
    if prevented is None or prevented.low is None or prevented.high is None:
        return "-"
    interval = f"{prevented.low:.1f} to {prevented.high:.1f}"
    return interval if prevented.estimate is None else f"{prevented.estimate:.1f} ({interval})"


def _usd(cost: CostItem | None) -> float | None:
    return None if cost is None else cost.usd


def _energy_j(cost: CostItem | None) -> float | None:
    return None if cost is None else cost.energy_j
