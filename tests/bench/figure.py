"""One measured figure beside its ceiling."""

import json
import sys
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """`ratio` is the share of what is possible: value / ceiling for rates, ceiling / value for costs; 1 is perfect."""

    name: str
    value: float
    unit: str
    ceiling: float
    ratio: float
    note: str = ""

    def print(self) -> None:
        said = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
        print(json.dumps({key: value for key, value in said.items() if value != ""}), flush=True)


def rate(name: str, values: list[float], ceilings: list[float], unit: str, note: str = "") -> Figure:
    """Compare medians of rounds that took turns; more is better."""
    value, ceiling = median(values), median(ceilings)
    spread = f"rounds {min(values):.4g} to {max(values):.4g}, ceiling {min(ceilings):.4g} to {max(ceilings):.4g}"
    return Figure(name, value, unit, ceiling, value / ceiling, "; ".join(part for part in (note, spread) if part))


def cost(name: str, value: float, floor: float, unit: str, note: str = "") -> Figure:
    """Compare a cost with the least it could be; less is better."""
    return Figure(name, value, unit, floor, floor / value if value else 1.0, note)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
