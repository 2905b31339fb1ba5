"""The demo's seven steps, each through the public API, with real processes, training and simulation behind them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from control_plane.cli.approvals import Wish, find_review, sign_approvals
from control_plane.cli.fleet_host import FleetHost, running
from control_plane.cli.home import people_folder
from control_plane.cli.stack import Stack
from control_plane.cli.workloads import add_workload
from control_plane.client import Client
from control_plane.kit.signing import read_signer
from control_plane.pipelines.schemas import PipelinePut, RunCreate, RunItem, TriggerBody
from control_plane.registry.schemas import ReleaseCreate, VersionItem
from control_plane.review.schemas import ReviewAnswerCreate
from control_plane.rollout.domain import ENDS, Phase
from control_plane.rollout.schemas import PlanBody, RolloutCreate, RolloutItem

POLL_S = 0.8
RUN_S = 420.0
ROLLOUT_S = 300.0
BEGIN_S = 60.0  # everyone has signed; what still keeps a rollout from beginning will not change
OVERRIDE = "demo: an operator insists although the gate said no"

Say = Callable[[str, float | None], None]


class StoryError(RuntimeError):
    """The demo did not go as it should; the message says where."""


@dataclass
class Story:
    """What happened so far. `clients` are one per role: nobody acts with another's rights.

    `patience` multiplies how long anything may take: a run is slower on clusters and through outages.
    """

    stack: Stack
    workload: str
    spec: dict[str, Any]
    host: FleetHost
    seed: int
    clients: dict[str, Client]
    say: Say
    seconds: dict[str, float] = field(default_factory=dict)
    runs: dict[str, RunItem] = field(default_factory=dict)
    rollouts: dict[str, RolloutItem] = field(default_factory=dict)
    versions: dict[str, VersionItem] = field(default_factory=dict)
    returned: int | None = None
    patience: float = 1.0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun

    def begin(self) -> None:
        """Step 1: the workload is known, robots enrol."""
        add_workload(self.clients["admin"], self.workload, simulated=True)
        self.host.enrol(self.clients["operator"], lambda n: self.say(f"tokens for {n} robots", None))
        self.host.start()
        self.host.wait_enrolled(self.clients["viewer"], lambda n: self.say(f"{n} robots have checked in", None))

    @property
    def bad_recipe(self) -> str | None:
        recipe: str | None = self.spec.get("demo", {}).get("bad")
        return recipe

    @property
    def subtle_recipe(self) -> str | None:
        recipe: str | None = self.spec.get("demo", {}).get("subtle")
        return recipe

    @property
    def improved(self) -> bool:
        """Whether the gate let v2 pass."""
        return str(self.runs["v2"].result["verdict"]) == "pass"

    def first_version(self, recipe: str = "standard") -> None:
        """Step 2: train v1 on nominal data, gate it, release it, install it everywhere."""
        run = self.ask("v1", because="a first version", recipe=recipe)
        self.finish_run("v1", run)
        self.versions["v1"] = self.version_of("v1")
        self.follow_rollout("v1", self.runs["v1"].result["rollout"], Phase.DONE)

    def arm_trigger(self, min_events: int) -> None:
        """Step 3: from now on the field's own incidents ask for a run."""
        self._put_trigger(TriggerBody(min_events=min_events))

    def _put_trigger(self, trigger: TriggerBody) -> None:
        admin, name = self.clients["admin"], self.spec["name"]
        held = admin.get_pipeline(name)
        admin.put_pipeline(
            name,
            PipelinePut(flow=held.flow, model=held.model, params=held.params | {"seed": self.seed}, trigger=trigger),
        )

    def wait_triggered(self) -> RunItem:
        known = {run.id for run in self.runs.values()}
        give_up = time.monotonic() + RUN_S * self.patience
        while time.monotonic() < give_up:
            fresh = [r for r in self.clients["viewer"].list_runs(pipeline=self.spec["name"]) if r.id not in known]
            if fresh:
                self._put_trigger(TriggerBody())  # one turn of the loop is told; the next is for those who stay
                return fresh[0]
            rate = self.clients["viewer"].rate(self.versions["v1"].content_digest, self.spec["model"]["name"])
            self.say(f"v1 drives: {rate.exposure / 1000:.1f} km, {rate.events} incidents", None)
            time.sleep(POLL_S)
        raise StoryError("the field's incidents asked for no run")

    def improved_version(self, run: RunItem) -> None:
        """Step 4, first half: the run that the field asked for trains v2 and puts it before the gate."""
        self.finish_run("v2", run)
        self.versions["v2"] = self.version_of("v2")

    def roll_out_improved(self) -> None:
        """Step 4, second half: approval, canary, wider, everywhere."""
        self.follow_rollout("v2", self.runs["v2"].result["rollout"], Phase.DONE)

    def ask(self, name: str, because: str, **params: Any) -> RunItem:
        body = RunCreate(params={"seed": self.seed, "workload": self.workload, **params}, because=because)
        run = self.clients["operator"].request_run(self.spec["name"], body, key=f"demo-{name}")
        self.runs[name] = run
        return run

    def ask_candidate(self, name: str, recipe: str) -> RunItem:
        """Ask for a candidate from v1 on the very data v2 learned from, judged against v2; it is not promoted."""
        return self.ask(
            name,
            because=f"demo: the {name} candidate",
            recipe=recipe,
            promote="never",
            dataset=self.runs["v2"].result["dataset"],
            parent=self.versions["v1"].content_digest,
            champion=self.versions["v2"].content_digest,
        )

    def candidate(self, name: str) -> None:
        self.finish_run(name, self.runs[name])
        self.versions[name] = self.version_of(name)

    def override(self) -> None:
        """Step 6: an operator puts the subtle candidate into canary against the gate; the field halts it."""
        result, operator = self.runs["subtle"].result, self.clients["operator"]
        release = self.clients["pipeline"].create_release(
            ReleaseCreate(
                content_digest=result["candidate"], device_classes=[self.spec["device_class"]], reason=OVERRIDE
            ),
            key="demo-subtle",
        )
        rollout = operator.create_rollout(
            RolloutCreate(
                release=release.digest,
                plan=PlanBody.model_validate(self.spec["rollout"]),
                gate_id=result["gate"],
                override_reason=OVERRIDE,
                plan_override=OVERRIDE,  # whoever insists does so too where so few canaries can show little
            ),
            key="demo-subtle",
        )
        self.follow_rollout("subtle", rollout.id, Phase.HALTED)
        self.returned = self.wait_running("v2")

    def wait_running(self, name: str) -> int:
        content, total = self.versions[name].content_digest, len(list(self.clients["viewer"].list_devices()))
        give_up = time.monotonic() + ROLLOUT_S * self.patience
        while (count := running(self.clients["viewer"], content)) < total and time.monotonic() < give_up:
            self.say(f"{count} of {total} robots run {name}", count / total)
            time.sleep(POLL_S)
        return count

    def finish_run(self, name: str, run: RunItem) -> None:
        """Wait for a run's end, telling its steps."""
        give_up = time.monotonic() + RUN_S * self.patience
        while run.state not in ("done", "failed", "cancelled"):
            if time.monotonic() > give_up:
                raise StoryError(f"run {run.id} does not end; {self.stack.supervisor.tail('runner')}")
            time.sleep(POLL_S)
            run = self.clients["viewer"].get_run(run.id)
            at = [step for step, said in run.steps.items() if said.state == "running"]
            jobs = list(self.clients["viewer"].list_jobs(run_id=run.id, state="running"))
            noted = ", ".join(f"{j.kind} {j.subject[:24]} {j.progress:.0%}" for j in jobs)
            self.say(f"run {name}: {at[-1] if at else run.state}" + (f" ({noted})" if noted else ""), None)
        self.runs[name] = run
        if run.state != "done":
            raise StoryError(f"run {name} {run.state}: {run.failure}")

    def version_of(self, name: str) -> VersionItem:
        return self.clients["viewer"].get_version(self.runs[name].result["candidate"])

    def follow_rollout(self, name: str, rollout_id: str | None, wanted: Phase) -> None:
        """Approve as the approver, then watch what the control plane decides."""
        if rollout_id is None:
            raise StoryError(f"the gate did not let {name} pass: {self.runs[name].result['because']}")
        self.approve(rollout_id, name)
        begun = time.monotonic()
        rollout = self.clients["viewer"].get_rollout(rollout_id)
        while rollout.phase not in ENDS:
            most_s = BEGIN_S if rollout.phase is Phase.WAITING_APPROVAL else ROLLOUT_S
            if rollout.phase is Phase.HELD or time.monotonic() - begun > most_s * self.patience:
                raise StoryError(f"rollout of {name} is {rollout.phase}: {rollout.because}")
            time.sleep(POLL_S)
            rollout = self.clients["viewer"].get_rollout(rollout_id)
            self.say(f"rollout {name}, stage {rollout.stage + 1}: {rollout.because}", None)
        self.rollouts[name] = rollout
        if rollout.phase is not wanted:
            made = self.clients["viewer"].rollout_decisions(rollout_id)
            told = "; then ".join(each.because for each in made[-3:])
            raise StoryError(f"rollout of {name} ended {rollout.phase}, not {wanted}: {told}")

    def approve(self, rollout_id: str, name: str) -> None:
        """Sign as the approver; where the gate warned, the operator who insists signs as well."""
        rollout = self.clients["viewer"].get_rollout(rollout_id)
        people = ("approver", "operator") if rollout.override_reason else ("approver",)
        for person in people:
            signer = read_signer(people_folder(self.stack.home) / f"{person}.pem")
            wish = Wish(person, f"demo: {name} looks good to me", accept_warning=bool(rollout.override_reason))
            sign_approvals(self.clients[person], self.clients[person].get_release(rollout.release), signer, wish)
        review = find_review(self.clients["approver"], rollout.release)
        if review is not None:
            body = ReviewAnswerCreate(approves=True, reason=f"demo: {name} looks good to me")
            self.clients["approver"].answer_review(review.id, body)
