"""The pages by name: for the menu, and for whoever asks the palette where to go."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Door:
    """One entry of the menu; `also` are other paths that belong to it."""

    href: str
    words: str
    says: str
    also: tuple[str, ...] = ()

    def holds(self, path: str) -> bool:
        if self.href == "/":
            return path == "/"
        return any(path == each or path.startswith(f"{each}/") for each in (self.href, *self.also))


NAV = (
    (
        Door("/", "Loop", "what moves, what waits, what is wrong"),
        Door("/fleet", "Fleet", "devices, sites, bulk actions"),
        Door("/events", "Events", "what happened in the field", ("/recordings",)),
    ),
    (
        Door("/models", "Models", "versions side by side, lineage", ("/versions", "/compare", "/lineage")),
        Door("/evaluations", "Evaluation", "suites, gates, replays", ("/gates",)),
        Door("/rollouts", "Rollouts", "plan, stages, evidence", ("/releases",)),
        Door("/reviews", "Reviews", "questions that wait for people"),
    ),
    (
        Door("/runs", "Runs", "pipelines, steps and jobs"),
        Door("/ledger", "Ledger", "cost and energy"),
        Door("/audit", "Audit", "who did what, and why"),
        Door("/settings", "Settings", "tokens, people, webhooks"),
    ),
)
DOORS = tuple(door for group in NAV for door in group)
