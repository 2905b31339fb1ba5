"""The candidates of the reference workload: a first model, a better one, and eight that are wrong in a known way.

Everything is trained and driven with the workload's own code; only what is wrong is done here.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, cast

import numpy as np
import torch

from flows.steps.split import split_groups
from flows.workloads.kit import noise
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.contract import workload
from flows.workloads.kit.frames import Frames
from flows.workloads.kit.learning import one_thread
from flows.workloads.kit.types import Array
from flows.workloads.warehouse_amr import relabel as relabelling
from flows.workloads.warehouse_amr import train
from flows.workloads.warehouse_amr.judge import Judge
from flows.workloads.warehouse_amr.policy import Network, runtime
from flows.workloads.warehouse_amr.recordings import SAMPLE, STATE, Clip, pack
from flows.workloads.warehouse_amr.relabel import Relabelling
from flows.workloads.warehouse_amr.rollout import SLOTS
from flows.workloads.warehouse_amr.scenario import Scenario
from flows.workloads.warehouse_amr.scenarios import SITES, draw
from flows.workloads.warehouse_amr.simulation import Simulation, State
from flows.workloads.warehouse_amr.train import Finetuning, Pretraining

SPEC = workload(train.__file__)
FIELD_MISSIONS = 720
BEFORE_STEPS, AFTER_STEPS = 60, 20  # what a recording holds around its incident
SAMPLE_SHARE = 0.05
FASTER_MPS, TOP_MPS, CRAWL_MPS = 0.2, 1.5, 0.25
WRONG_LABEL_WEIGHT = 3.0
DRY_FRICTION, PERSON_RADIUS_M = 0.3, 0.5
V1, EQUAL = "v1", "v2 trained again with another seed"
SHUFFLED, FLIPPED, CLIPS_ONLY = "shuffled labels", "flipped sign", "clips only"
DRY, ONE_SIDED, FASTER = "dry floor and pedestrians only", "one-sided", "labels 0.2 m/s faster"
NOISE = {"weight noise 3 %": 0.03, "weight noise 10 %": 0.1}
WRONG = (*NOISE, SHUFFLED, FLIPPED, CLIPS_ONLY, DRY, ONE_SIDED, FASTER)


def sites(count: int, *name: int | str) -> list[Scenario]:
    """Draw missions of all sites in turn."""
    kinds = list(SITES.values())
    return [draw(kinds[i % len(kinds)], noise.seed_of("candidates", *name, i)) for i in range(count)]


# --- recordings of the field ----------------------------------------------------------------------------------------


class Recorder:
    """Missions of the field in one simulation, recorded as the robots' own application does, without their disks."""

    def __init__(self, scenarios: Sequence[Scenario], policy: Policy) -> None:
        self._waiting = list(enumerate(scenarios))[::-1]
        self._policy = policy
        self._sim = Simulation(min(SLOTS, len(scenarios)))
        self._judge = Judge(self._sim)
        self._mission: dict[int, tuple[int, Scenario]] = {}
        self._steps: dict[int, list[tuple[Array, Array]]] = {}
        self._command = np.zeros((self._sim.slots, 2), np.float32)

    def run(self) -> list[Clip]:
        clips: dict[int, Clip] = {}
        for slot in range(self._sim.slots):
            self._load(slot)
        while self._sim.active.any():
            for slot in map(int, self._step()):
                number, clip = self._mission[slot][0], self._clip(slot)
                if clip is not None:
                    clips[number] = clip
                self._load(slot)
        return [clips[number] for number in sorted(clips)]

    def _load(self, slot: int) -> None:
        if self._waiting:
            self._mission[slot] = self._waiting.pop()
            self._steps[slot] = []
            self._command[slot] = 0
            self._sim.load(slot, self._mission[slot][1])
            self._judge.begin(slot)

    def _step(self) -> Array:
        state = self._sim.observe()
        ended = self._judge.judge(state)
        slots = np.flatnonzero(self._sim.active)
        if len(slots):
            self._command[slots] = self._policy(scan=self._sim.scan[slots], vec=self._sim.vector[slots])
            seen, true = pack(self._sim, state, self._command)
            for slot in map(int, slots):
                self._steps[slot].append((seen[slot], true[slot]))
            self._sim.act(self._command)
        return ended

    def _clip(self, slot: int) -> Clip | None:
        (number, scenario), outcome = self._mission[slot], self._judge.outcome(slot)
        length, chance = len(self._steps[slot]), noise.stream("clip", scenario.seed)
        if outcome.kind is not None:
            kind, middle = outcome.kind, outcome.incident_step
        elif float(chance.random()) < SAMPLE_SHARE:
            kind, middle = SAMPLE, int(chance.integers(0, length))
        else:
            return None
        rows = self._steps[slot][max(0, middle - BEFORE_STEPS) : middle + AFTER_STEPS]
        seen, true = (np.stack(column) for column in zip(*rows, strict=True))
        state = State(**{name: true[name].astype(np.float32) for name in STATE.names or ()})
        return Clip(f"mission-{number:04d}", kind, scenario, seen["scan"], seen["vec"].astype(np.float32), state)


# --- models ---------------------------------------------------------------------------------------------------------


@dataclass
class Made:
    """One seed's models, and the incidents that were held out of training."""

    models: dict[str, Network]
    champion: Network
    held_out: list[tuple[str, Scenario]]


@dataclass(frozen=True)
class School:
    """What one seed's candidates are made from: the first model, what it knew, what the field recorded."""

    v1: Network
    base: Frames
    clips: list[Clip]
    seed: int

    def taught(self, dataset: Frames, plan: Finetuning, *, seed: int | None = None) -> Network:
        network = copy.deepcopy(self.v1)
        train.finetune(network, self.base, dataset, plan, self.seed if seed is None else seed)
        return network

    def relabelled(self, plan: Relabelling, *, seed: int | None = None) -> Frames:
        return relabelling.relabel(self.clips, self.v1, plan, self.seed if seed is None else seed)[0]


def make(seed: int) -> Made:
    """Train every model of one seed: first, second, an equal of the second, and the eight that are wrong."""
    one_thread()
    with redirect_stdout(StringIO()):
        v1, base, _ = train.pretrain(Pretraining(), seed)
        clips = Recorder(sites(FIELD_MISSIONS, "field", seed), runtime(v1)).run()
        sides = split_groups([clip.cluster for clip in clips], float(SPEC["curation"]["holdout"]), f"{seed}")
        known = [clip for clip in clips if sides[clip.cluster] == "train"]
        school = School(v1, base, known, seed)
        dataset = school.relabelled(Relabelling())
        v2 = school.taught(dataset, Finetuning())
        models = {V1: v1} | wrong(school, v2, dataset) | {EQUAL: _again(school)}
    held_out = [(c.cluster, c.scenario) for c in clips if sides[c.cluster] == "holdout" and c.is_incident]
    return Made(models, v2, held_out)


def wrong(school: School, v2: Network, dataset: Frames) -> dict[str, Network]:
    noisy = {name: with_noise(v2, share, school.seed) for name, share in NOISE.items()}
    clips = school.relabelled(Relabelling(incident_weight=WRONG_LABEL_WEIGHT, resim_variants=0))
    order = noise.stream("shuffle", school.seed).permutation(len(clips))
    replay, one_sided = recipe("replay_only"), recipe("one_sided")
    return noisy | {
        SHUFFLED: school.taught(with_labels(clips, lambda label: label[order]), Finetuning()),
        FLIPPED: school.taught(with_labels(clips, lambda label: label * np.array([1, -1], np.float32)), Finetuning()),
        CLIPS_ONLY: school.taught(school.relabelled(replay[0]), replay[1]),
        DRY: school.taught(driven_again_dry(school.clips, dataset), Finetuning()),
        ONE_SIDED: school.taught(school.relabelled(one_sided[0]), one_sided[1]),
        FASTER: school.taught(with_labels(dataset, faster), Finetuning()),
    }


def recipe(name: str) -> tuple[Relabelling, Finetuning]:
    """Give a recipe of workload.yaml."""
    parts = cast("Mapping[str, Mapping[str, Any]]", SPEC["recipes"][name])
    return Relabelling(**parts.get("relabel", {})), Finetuning(**parts.get("train", {}))


def _again(school: School) -> Network:
    seed = noise.seed_of("again", school.seed)
    return school.taught(school.relabelled(Relabelling(), seed=seed), Finetuning(), seed=seed)


def with_labels(data: Frames, change: Callable[[Array], Array]) -> Frames:
    return replace(data, features=data.features | {"label": change(data["label"])})


def faster(label: Array) -> Array:
    """Whoever drives, drives faster; standing still stays right."""
    speed = label[:, 0] + FASTER_MPS * (label[:, 0] > CRAWL_MPS)
    return np.stack([np.minimum(speed, TOP_MPS), label[:, 1]], 1)


def driven_again_dry(clips: Sequence[Clip], data: Frames) -> Frames:
    """Keep of what was driven again only dry floor and pedestrians: a filter upstream that nobody knows of."""
    other = [clip.cluster for clip in clips if not is_dry_with_people(clip.scenario)]
    return data.take(np.flatnonzero((data.source == "resim") & ~np.isin(data.group.astype(str), other)))


def is_dry_with_people(scenario: Scenario) -> bool:
    return scenario.friction > DRY_FRICTION and all(m.radius_m < PERSON_RADIUS_M for m in scenario.movers)


def with_noise(network: Network, share: float, seed: int) -> Network:
    """Add noise of this share of each tensor's own spread."""
    noisy = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(noise.seed_of("weights", seed) % 2**31)
    with torch.no_grad():
        for weights in noisy.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator), alpha=float(weights.std()) * share)
    return noisy
