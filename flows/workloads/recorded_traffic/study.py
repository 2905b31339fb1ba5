"""Owns the study without a control plane: the commands' own functions, one seed, one held-out group, five models.

`python -m flows.workloads.recorded_traffic.study --seed 1 --held-out lankershim` prints one JSON object a line.
"""

import argparse
import contextlib
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.workloads.kit.frames import Frames
from flows.workloads.kit.learning import one_thread
from flows.workloads.kit.types import Json
from flows.workloads.recorded_traffic.cases import in_groups
from flows.workloads.recorded_traffic.groups import FIELD_GROUPS, HOME_GROUPS
from flows.workloads.recorded_traffic.policy import Network, runtime
from flows.workloads.recorded_traffic.recordings import Clip
from flows.workloads.recorded_traffic.relabel import Relabelling, every_start, relabel
from flows.workloads.recorded_traffic.rollout import by_policy, drive
from flows.workloads.recorded_traffic.train import Finetuning, Pretraining, finetune, pretrain
from flows.workloads.recorded_traffic.world import Scenario

PRE_STEPS, POST_STEPS = 60, 20


@dataclass(frozen=True)
class Result:
    """What one model did on the held-out group. `vehicle` names each case's cluster."""

    model: str
    vehicle: list[str]
    unsafe: list[bool]
    collision: list[bool]
    rear_ended: list[bool]
    hard_brakes: list[int]
    distance_m: list[float]
    human_m: list[float]

    def summary(self) -> Json:
        return {
            "model": self.model,
            "cases": len(self.vehicle),
            "vehicles": len(set(self.vehicle)),
            "unsafe": float(np.mean(self.unsafe)),
            "collision": float(np.mean(self.collision)),
            "rear_ended": float(np.mean(self.rear_ended)),
            "hard_brakes": sum(self.hard_brakes),
            "progress_ratio": sum(self.distance_m) / sum(self.human_m),
        }


@dataclass(frozen=True)
class Study:
    seed: int
    held_out: str
    incidents: int
    results: list[Result]

    def result(self, model: str) -> Result:
        return next(result for result in self.results if result.model == model)


def starts(groups: Sequence[str]) -> list[Scenario]:
    return [start for case in in_groups(groups) for start in every_start(case.name)]


def study(seed: int, held_out: str, *, robust: bool = True) -> Study:
    """Learn from incidents of the other dense groups and look at the held-out one.

    Models: `v1` imitates home drivers, `v2` its incidents relabelled, `imitate_field` copies field drivers instead;
    `robust_v1` was corrected at home already, `robust_v2` is what the loop then makes of it.
    """
    one_thread()
    field, cases = [group for group in FIELD_GROUPS if group != held_out], starts([held_out])
    v1, base, _ = pretrain(Pretraining(home_groups=HOME_GROUPS), seed)
    clips = incidents(v1, starts(field))
    models = {
        "v1": v1,
        "v2": _next(v1, base, clips, Relabelling(), seed),
        "imitate_field": _next(v1, base, clips, Relabelling(imitate=True), seed),
    }
    if robust:
        firm, firm_base, _ = pretrain(Pretraining(home_groups=HOME_GROUPS, robust=True), seed)
        found = incidents(firm, starts(field))
        models["robust_v1"] = firm
        models["robust_v2"] = _next(firm, firm_base, found, Relabelling(), seed) if found else firm
    return Study(seed, held_out, len(clips), [evaluate(name, model, cases) for name, model in models.items()])


def incidents(model: Network, scenarios: Sequence[Scenario]) -> list[Clip]:
    """What devices would record: of every unsafe drive, six seconds before and two after."""
    outcomes, visited = drive(scenarios, by_policy(runtime(model)))
    clips = []
    for index, outcome in enumerate(outcomes):
        if outcome.kind is None:
            continue
        since = visited.step - outcome.incident_step
        rows = np.flatnonzero((visited.scenario == index) & (since >= -PRE_STEPS) & (since <= POST_STEPS))
        part = visited.take(rows)
        clips.append(Clip(f"incident-{index}", outcome.kind, scenarios[index], part.step, part.s, part.speed))
    return clips


def _next(parent: Network, base: Frames, clips: list[Clip], plan: Relabelling, seed: int) -> Network:
    data, _ = relabel(clips, parent, plan, seed)
    model = copy.deepcopy(parent)
    finetune(model, base, data, Finetuning(), seed)
    return model


def evaluate(name: str, model: Network, cases: Sequence[Scenario]) -> Result:
    outcomes, _ = drive(cases, by_policy(runtime(model)))
    return Result(
        model=name,
        vehicle=[case.case for case in cases],
        unsafe=[outcome.kind is not None for outcome in outcomes],
        collision=[outcome.collision for outcome in outcomes],
        rear_ended=[outcome.rear_ended for outcome in outcomes],
        hard_brakes=[outcome.hard_brakes for outcome in outcomes],
        distance_m=[outcome.distance_m for outcome in outcomes],
        human_m=[outcome.human_m for outcome in outcomes],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The loop on recorded traffic, without the control plane.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", choices=FIELD_GROUPS, default=None, help="one group; all in turn if not given")
    chosen = parser.parse_args()
    for group in [chosen.held_out] if chosen.held_out else FIELD_GROUPS:
        with contextlib.redirect_stdout(sys.stderr):  # the commands' own progress lines
            found = study(chosen.seed, group)
        for result in found.results:
            line = {"seed": chosen.seed, "held_out": group, **result.summary()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
