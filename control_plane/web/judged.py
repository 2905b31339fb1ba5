"""What a gate found, in words for people: whose line decides, what a cluster is called, which unit a count is in."""

from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.evaluation.domain import Verdict
from control_plane.evaluation.schemas import FlipItem, GateItem, PathItem

SERIES = {"harm": "s3", "over": "s3", "safe": "s2", "under": "s2", "gain": "s0"}
SOLID = ("harm", "over")
UNITS = {"pairs": "scenarios", "planned": "scenarios", "broke": "scenarios", "fixed": "scenarios", "seen": "scenarios"}
UNITS |= {"candidate_failures": "scenarios", "champion_failures": "scenarios", "pairs_needed": "scenarios"}
UNITS |= {"clusters": "independent situations", "situations": "situations"}


def plot_of(item: PathItem) -> dict[str, Any]:
    """Return a path as `plots.js` draws it: what speaks against the candidate is solid, what speaks for it dashed."""
    lines = [
        {"name": name, "series": SERIES.get(name, "s0"), "dashed": name not in SOLID, "y": values}
        for name, values in item.e_values.items()
    ]
    return {
        "x": item.seen,
        "steps": True,
        "log": True,
        "unit": "e-value",
        "lines": lines,
        "levels": levels(item.needed),
    }


def levels(needed: Mapping[str, float]) -> list[dict[str, Any]]:
    """Say whose line each level is: "harm: 20 decides"; lines that share a level share its words."""
    whose: dict[float, list[str]] = {}
    for name, value in sorted(needed.items()):
        whose.setdefault(value, []).append(name)
    return [{"y": value, "words": f"{', '.join(names)}: {value:.3g} decides"} for value, names in sorted(whose.items())]


def looked(candidates: int, results: Sequence[int] | None) -> str:
    """Say how many candidates' gates had a suite before them; `results`: how many this candidate and its champion had.

    A gate that is decided early has named suites of which it saw nothing.
    """
    number = "1 candidate" if candidates == 1 else f"{candidates:,} candidates"
    if results and not results[0]:
        return f"named in the gates of {number}, this one included, which was decided without a result of its own there"
    return f"{number}, this one included"


def unit_of(figure: str) -> str:
    """Return what a figure of a part counts, "" where it is no count."""
    return "independent situations" if figure.endswith("_decided_after") else UNITS.get(figure, "")


def device_of(cluster: str) -> str | None:
    """Return the device of a cluster that is named by a field event, DEVICE.BOOT.SEQ."""
    parts = cluster.split(".")
    return parts[0] if len(parts) == 3 and parts[0].startswith("dev_") else None


def cluster_words(cluster: str, serials: Mapping[str, str], numbers: Mapping[str, int]) -> str:
    """Name the robot and its event where they are known, else shorten the id."""
    device = device_of(cluster)
    if device is None:
        return cluster if len(cluster) <= 16 else f"…{cluster[-12:]}"
    event = f"event {numbers[cluster]}" if cluster in numbers else f"…{cluster[-9:]}"
    return f"{serials[device]}, {event}" if device in serials else event


def in_turn(flips: Sequence[FlipItem], replayed: set[tuple[str, str]]) -> list[FlipItem]:
    """Put first what can be looked at, then what broke."""
    return sorted(flips, key=lambda f: ((f.suite, f.scenario) not in replayed, not f.broke))


def progress(done: int, scenarios: int, *, judged: bool) -> str:
    """Say how far an evaluation went; once a gate has weighed it, what is missing was not needed."""
    if done >= scenarios:
        return ""
    if not judged:
        return "under way"
    return "not needed: the gate had decided" if not done else "stopped early: the gate had decided"


def judged_by(gates: Sequence[GateItem]) -> set[str]:
    """Return the evaluations by which gates have decided; an inconclusive gate may still want more of them."""
    decided = [gate for gate in gates if gate.verdict is not Verdict.INCONCLUSIVE]
    return {str(each) for gate in decided for each in gate.evidence.get("evaluations", [])}
