"""An installation in the middle of the loop, made through the services as a real one would be.

v1 is the baseline; v2 was stopped by the gate; v3 passed it and is in its canary stage; a review waits for a person.
"""

import base64
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.protocol import v1 as wire
from control_plane.datasets import service as datasets
from control_plane.datasets.schemas import Clip, DatasetCreate
from control_plane.evaluation import service as evaluation
from control_plane.evaluation.schemas import EvaluationCreate, GateCreate, GateItem, ResultsCreate, SuiteCreate
from control_plane.evaluation.schemas import FileRef as EvaluationFile
from control_plane.factory import service as factory
from control_plane.factory.domain import ExporterKind, Outcome, read
from control_plane.factory.schemas import (
    AttemptCreate,
    AttemptFinish,
    AttemptRenew,
    ClusterPut,
    ExporterPut,
    JobCreate,
    JobSpec,
)
from control_plane.factory.schemas import FileRef as JobFile
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import DeviceState, Identity
from control_plane.fleet.schemas import DeviceClassPut, EnrolmentTokenCreate
from control_plane.kit import clock
from control_plane.kit.auth import Principal
from control_plane.kit.context import Context
from control_plane.kit.db import Session
from control_plane.kit.roles import Role
from control_plane.pipelines import service as pipelines
from control_plane.pipelines import store as pipeline_store
from control_plane.pipelines.schemas import Heartbeat, PipelinePut, RunCreate, RunFinish, StepPut, TriggerBody
from control_plane.registry import service as registry
from control_plane.registry.schemas import FileRef, ModelPut, ReleaseCreate, VersionCreate, VersionItem
from control_plane.review import service as review
from control_plane.review.schemas import ReviewAnswerCreate
from control_plane.rollout import reconcile
from control_plane.rollout import service as rollout
from control_plane.rollout.domain import Gravest
from control_plane.rollout.schemas import PlanBody, RolloutCreate, StageBody
from control_plane.telemetry import service as telemetry
from control_plane.training import service as training
from control_plane.training.domain import TrainingState
from control_plane.training.schemas import TrainingCreate, TrainingFinish
from tests.browser.parts import CONTRACT, GATE, bundle, mcap, result
from tests.support.exporters import FOLDER

DCGM, VLLM = ExporterKind.DCGM, ExporterKind.VLLM
MODEL, CLASS, SITES = "warehouse-amr-drive", "sim-amr", ("hall", "annex", "cold_store")
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
KINDS = ("near_miss", "stuck", "collision", "hard_brake")


@dataclass
class Robot:
    """A device as the seed plays it."""

    who: Identity
    serial: str
    key: ec.EllipticCurvePrivateKey
    seq: int = 0
    sent: int = 0
    runs: Any = None


@dataclass
class Seeded:
    """What there is, for tests to ask for."""

    robots: list[Robot] = field(default_factory=list)
    versions: list[VersionItem] = field(default_factory=list)
    gates: list[GateItem] = field(default_factory=list)
    rollouts: list[str] = field(default_factory=list)
    review: str = ""
    runs: list[str] = field(default_factory=list)
    recordings: list[str] = field(default_factory=list)


@dataclass
class Stage:
    """The installation while it is being made."""

    context: Context
    rng: random.Random
    made: Seeded = field(default_factory=Seeded)

    def session(self) -> Any:
        return self.context.database.transaction()


async def seed(context: Context, *, devices: int = 36, history: int = 24, canary: int = 16) -> Seeded:
    """Make everything; `history` and `canary` are how many rounds of telemetry v1 alone and v3 beside it send."""
    stage = Stage(context, random.Random(7))
    await _fleet(stage, devices)
    await _model(stage)
    first = await _version(stage, 1.0, "teacher's first student")
    await _roll_out_everywhere(stage, first)
    await _drive(stage, history, {first.content_digest: 4.0}, hours=6)
    dataset = await _data(stage, first)
    bad = await _trained(stage, dataset, first, 2, "replay only")
    good = await _trained(stage, dataset, first, 3, "standard recipe")
    suites = await _suites(stage)
    await _judge(stage, suites, bad, first, worse=0.14)
    await _judge(stage, suites, good, first, worse=0.005)
    await _run(stage)
    await _canary(stage, good, canary)
    await _open_review(stage, bad)
    return stage.made


async def _fleet(stage: Stage, count: int) -> None:
    facts = {"simulated": True, "cpu": "x86-64", "power_mode": "sim"}
    async with stage.session() as session:
        await fleet.put_class(session, CLASS, DeviceClassPut(title="Simulated warehouse robot", facts=facts))
    for i in range(count):
        async with stage.session() as session:
            stage.made.robots.append(await _enrol(session, f"amr-{i:03d}", SITES[i % len(SITES)]))


async def _enrol(session: Session, serial: str, site: str) -> Robot:
    token = (await fleet.create_token(session, "seed", EnrolmentTokenCreate(device_class=CLASS))).token
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    proof = base64.b64encode(key.sign(wire.enrol_proof(token, pem), ec.ECDSA(SHA256()))).decode()
    request = wire.EnrolRequest(
        token=token,
        public_key_pem=pem,
        proof=proof,
        serial=serial,
        device_class=CLASS,
        site=site,
        agent_version="0.1.0",
    )
    device_id = await fleet.enrol(session, request)
    who = Identity(device_id, CLASS, site, DeviceState.ACTIVE, wire.device_key_id(key.public_key()))
    return Robot(who, serial, key)


async def _model(stage: Stage) -> None:
    body = ModelPut.model_validate(
        {
            "title": f"Warehouse robot with a lidar {EVIL}",
            "contract": CONTRACT,
            "events": {
                "collision": {"severity": "gravest", "incident": True},
                "near_miss": {"severity": "grave", "incident": True},
                "stuck": {"severity": "minor", "incident": True},
                "hard_brake": {"severity": "minor", "incident": False},
            },
            "exposure": "distance_m",
            "gate": GATE,
        }
    )
    async with stage.session() as session:
        await registry.put_model(session, "seed", MODEL, body)


async def _version(stage: Stage, scale: float, label: str, **more: Any) -> VersionItem:
    files = {}
    for path, data in bundle(scale).items():
        stored = await stage.context.objects.put_bytes(data)
        files[path] = FileRef(sha256=stored.sha256, size_bytes=len(data))
    async with stage.session() as session:
        body = VersionCreate(files=files, label=label, **more)
        made = await registry.register_version(session, stage.context.objects, "trainer", MODEL, body)
    stage.made.versions.append(made)
    return made


PLAN = PlanBody(
    stages=[StageBody(fraction=0.34, max_exposure=1e7), StageBody(fraction=0.67), StageBody(fraction=1)],
    margin=1.0,
    max_failure_fraction=0.3,
    gravest=Gravest.OFF,
)


async def _release(stage: Stage, version: VersionItem, reason: str, approvals: int = 1) -> str:
    async with stage.session() as session:
        body = ReleaseCreate(content_digest=version.content_digest, device_classes=[CLASS], reason=reason)
        release = await registry.create_release(session, stage.context.objects, "pipeline", approvals, body)
    return release.digest


async def _start(stage: Stage, release: str, plan: PlanBody, **more: Any) -> str:
    async with stage.session() as session:
        made = await rollout.create_rollout(
            session, stage.context.objects, "pipeline", RolloutCreate(release=release, plan=plan, start=True, **more)
        )
        found = (await review.list_reviews(session, limit=1)).items[0]
        answer = ReviewAnswerCreate(approves=True, reason="the evidence is sound")
        await review.answer(session, Principal("ada", Role.APPROVER), found.id, answer)
    stage.made.rollouts.append(made.id)
    await _tick(stage, 2)
    return made.id


async def _tick(stage: Stage, times: int = 1) -> None:
    for _ in range(times):
        await reconcile.tick(stage.context)


async def _roll_out_everywhere(stage: Stage, version: VersionItem) -> None:
    release = await _release(stage, version, "the first version")
    everyone = PlanBody(stages=[StageBody(fraction=1, must_prove=False)])
    await _start(stage, release, everyone, override_reason="there is no champion to compare with yet")
    for phase in (wire.DeploymentPhase.DOWNLOADING, wire.DeploymentPhase.COMMITTED):
        await _check_in(stage, {phase: 1.0})
    await _tick(stage, 2)


async def _check_in(stage: Stage, phases: Mapping[wire.DeploymentPhase, float]) -> None:
    """Let every device ask what to run and say how far it is: a share of those with an order in each phase."""
    board = rollout.Board()
    for i, robot in enumerate(stage.made.robots):
        async with stage.session() as session:
            order = (await board.fresh(session, stage.context.objects)).order(robot.who, 0)
            await _say(stage, session, board, robot, order, _pick(phases, i / len(stage.made.robots)))


def _pick(phases: Mapping[wire.DeploymentPhase, float], place: float) -> wire.DeploymentPhase:
    total = 0.0
    for phase, share in phases.items():
        total += share
        if place < total:
            return phase
    return list(phases)[-1]


REASONS = {
    wire.DeploymentPhase.ARMED: ("moving", "waits until it stands still: speed is 0.8 m/s"),
    wire.DeploymentPhase.DOWNLOADING: (None, "3 of 4 files"),
    wire.DeploymentPhase.REVERTED: ("p99_too_slow", "p99 was 31 ms in the trial, 20 ms allowed"),
}


async def _say(
    stage: Stage, session: Session, board: rollout.Board, robot: Robot, order: Any, phase: wire.DeploymentPhase
) -> None:
    report = None
    if order is not None:
        reason, detail = REASONS.get(phase, (None, ""))
        if phase is wire.DeploymentPhase.COMMITTED:
            robot.runs = order.release
        report = wire.DeploymentReport(
            release_digest=order.release.digest,
            counter=order.release.counter,
            rollout_id=order.rollout_id,
            phase=phase,
            reason=reason,
            detail=detail,
            qualification={"latency_p50_ms": 1.9, "latency_p99_ms": round(4 + 3 * stage.rng.random(), 2)},
        )
    runs = robot.runs
    active = runs and wire.ActiveRelease(
        release_digest=runs.digest, content_digest=runs.content_digest, counter=runs.counter
    )
    robot.seq += 1
    message = wire.CheckIn(
        boot_id=f"boot-{robot.serial}",
        seq=robot.seq,
        nonce="n" * 16,
        sent_at=clock.now(),
        agent_version="0.1.0",
        active=active,
        deployment=report,
        spool={"bytes": 12_288.0, "recordings": 1.0},
        platform={"cpu_percent": 31.0, "memory_percent": 44.0, "temperature_c": 52.5},
    )
    await fleet.see(session, robot.who, message)
    await rollout.track(session, board, robot.who, message, order)


async def _drive(stage: Stage, rounds: int, rates: Mapping[str, float], hours: float, *, tick: bool = False) -> None:
    """Send a window and its events per device and round; `rates` are incidents per km by content."""
    for i in range(rounds):
        at = clock.now() - timedelta(hours=hours) * (1 - i / rounds)
        for robot in stage.made.robots:
            async with stage.session() as session:
                await telemetry.take_batch(session, robot.who, _batch(stage, robot, at, rates))
        if tick:
            await _tick(stage)


def _batch(stage: Stage, robot: Robot, at: datetime, rates: Mapping[str, float]) -> wire.TelemetryBatch:
    content, metres = robot.runs.content_digest, 70 + 20 * stage.rng.random()
    expected = rates.get(content, 4.0) * metres / 1000 * (1.6 if robot.who.site == "annex" else 0.8)
    number = min(int(expected) + (stage.rng.random() < expected % 1), 3)
    kinds = [stage.rng.choices(KINDS[:3], (6, 4, 0.7))[0] for _ in range(number)]
    kinds += ["hard_brake"] * (stage.rng.random() < 0.5)
    counts, swing = {kind: kinds.count(kind) for kind in set(kinds)}, math.sin(robot.sent / 5)
    window = wire.ExposureWindow(
        seq=robot.sent,
        content_digest=content,
        started_at=at - timedelta(seconds=60),
        ended_at=at,
        distance_m=metres,
        duration_s=60,
        decisions=600,
        energy_j=900.0 + 120 * swing,
        counts=counts,
        latency_p50_ms=1.8 + 0.2 * swing,
        latency_p99_ms=4.4 + swing,
        temperature_max_c=61.0 + 11 * swing,
        throttled_s=4.0 if swing > 0.9 else 0.0,
    )
    robot.sent += 1
    events = []
    for kind in kinds:
        when = at - timedelta(seconds=60 * stage.rng.random())
        details = {"speed_m_s": round(stage.rng.random(), 2), "note": EVIL if robot.sent < 3 else "aisle 4"}
        events.append(
            wire.FieldEvent(
                seq=robot.sent,
                event_id=f"{robot.serial}.{robot.sent}",
                kind=kind,
                content_digest=content,
                at=when,
                details=details,
            )
        )
        robot.sent += 1
    return wire.TelemetryBatch(stream_id=f"stream-{robot.serial}", windows=(window,), events=tuple(events))


async def _data(stage: Stage, version: VersionItem) -> str:
    async with stage.session() as session:
        found = (await telemetry.list_events(session, limit=14)).items
    clips = []
    robots = {robot.who.id: robot for robot in stage.made.robots}
    for event in found:
        data = mcap(event.event_id)
        who, digest = robots[event.device_id].who, sha256(data).hexdigest()
        announce = wire.RecordingAnnounce(
            sha256=digest,
            size_bytes=len(data),
            trigger=event.kind,
            event_id=event.event_id,
            content_digest=version.content_digest,
            started_at=event.at - timedelta(seconds=8),
            ended_at=event.at,
        )
        async with stage.session() as session:
            await telemetry.announce(session, stage.context.objects, who, announce)
        await stage.context.objects.put_bytes(data)
        async with stage.session() as session:
            await telemetry.complete(session, stage.context.objects, who, digest)
        stage.made.recordings.append(digest)
        clips.append(
            Clip(
                recording=digest,
                size_bytes=len(data),
                event_id=event.event_id,
                trigger=event.kind,
                group=event.event_id,
                split="holdout" if len(clips) % 4 == 0 else "train",
            )
        )
    async with stage.session() as session:
        body = DatasetCreate(name="incidents", query={"kinds": list(KINDS[:3])}, code="curate-1", clips=clips)
        return (await datasets.publish(session, "pipeline", body)).digest


async def _trained(stage: Stage, dataset: str, parent: VersionItem, seed_: int, label: str) -> VersionItem:
    async with stage.session() as session:
        body = TrainingCreate(
            model=MODEL,
            dataset=dataset,
            parent=parent.content_digest,
            code="train-1",
            seed=seed_,
            recipe={"name": label},
        )
        key = (await training.ask(session, body)).key
        await training.finish(session, key, TrainingFinish(state=TrainingState.DONE, report={"loss": 0.02}))
    more = {"dataset": dataset, "parent": parent.content_digest, "training": key}
    return await _version(stage, float(seed_), label, **more)


async def _suites(stage: Stage) -> list[str]:
    made = []
    for name, kind, count in (("nominal", "nominal", 300), ("regression", "regression", 60)):
        scenarios = [
            {
                "id": f"{name}-{i:04d}",
                "seed": i,
                "cluster": f"c{i % 150}",
                "tags": [("crossing", "aisle", "dock")[i % 3]],
            }
            for i in range(count)
        ]
        plain = {
            "schema": "fleetloop.suite/v1",
            "workload": "warehouse_amr",
            "suite": name,
            "kind": kind,
            "simulator": "mujoco-3.14/mjbatch-0.1.4",
            "scenarios": scenarios,
        }
        file = await _file(stage, json.dumps(plain).encode())
        async with stage.session() as session:
            suite = await evaluation.create_suite(session, stage.context.objects, SuiteCreate(model=MODEL, file=file))
        made.append(suite.digest)
    return made


async def _file(stage: Stage, data: bytes) -> EvaluationFile:
    stored = await stage.context.objects.put_bytes(data)
    return EvaluationFile(sha256=stored.sha256, size_bytes=len(data))


async def _judge(
    stage: Stage, suites: Sequence[str], candidate: VersionItem, champion: VersionItem, *, worse: float
) -> None:
    for digest, name, count in zip(suites, ("nominal", "regression"), (300, 60), strict=True):
        for version in (champion, candidate):
            await _evaluate(stage, digest, name, count, version, 0.06 if version is champion else worse)
    async with stage.session() as session:
        body = GateCreate(
            model=MODEL, candidate=candidate.content_digest, champion=champion.content_digest, suites=list(suites)
        )
        stage.made.gates.append(await evaluation.ask_gate(session, stage.context.objects, "pipeline", body))


async def _evaluate(stage: Stage, suite: str, name: str, count: int, version: VersionItem, rate: float) -> None:
    async with stage.session() as session:
        body = EvaluationCreate(content_digest=version.content_digest, suite=suite)
        item = await evaluation.create_evaluation(session, body)
    if not item.missing:
        return
    model = next(f["sha256"] for f in version.content["files"] if f["path"] == "model.onnx")
    share = {"nominal": rate, "regression": min(rate * 9, 0.9)}[name]
    rng = random.Random(version.version * 100 + count)
    lines = [result(name, i, count, model, fails=rng.random() < share) for i in range(count)]
    file = await _file(stage, "\n".join(lines).encode())
    async with stage.session() as session:
        results = ResultsCreate(job_key="simulate-1", file=file)
        await evaluation.add_results(session, stage.context.objects, item.id, results)


STEPS = (
    ("ingest", 4.1, 2.2),
    ("curate", 2.6, 1.1),
    ("retrain", 31.0, 29.2),
    ("evaluate", 24.4, 21.0),
    ("gate", 0.7, 0.0),
)


async def _metered(stage: Stage) -> None:
    """Let a cluster's exporters have told of half an hour."""
    stated = [(kind, f"http://node1:{port}/metrics") for kind, port in ((DCGM, 9400), (VLLM, 8000))]
    exporters = [ExporterPut(kind=kind, url=url) for kind, url in stated]
    body = ClusterPut(backend="slurm", usd_per_hour=1.2, watts=10, usd_per_gpu_hour=2.5, exporters=exporters)
    async with stage.session() as session:
        await factory.put_cluster(session, "gpus", body)
        claimed = {each["kind"]: each["id"] for each in await factory.claim(session, 10, 15.0)}
    now_s, texts = clock.now().timestamp(), {kind: (FOLDER / f"{kind}.txt").read_text() for kind in (DCGM, VLLM)}
    for step in range(60):
        at_s = now_s - 1800 + 30 * step
        power = 250 + 100 * math.sin(step / 6)
        said = {
            DCGM: texts[DCGM].replace("9000000000", f"{9e9 + 9e6 * step:.0f}").replace("} 300\n", f"}} {power:.1f}\n"),
            VLLM: texts[VLLM].replace("} 1000.0", f"}} {1000.0 + 2400 * step}"),
        }
        async with stage.session() as session:
            for kind, text in said.items():
                await factory.heard(session, claimed[kind], read(text, kind, at_s), at_s)


async def _run(stage: Stage) -> None:
    await _metered(stage)
    async with stage.session() as session:
        await factory.put_cluster(session, "local", ClusterPut(backend="local", usd_per_hour=0.085, watts=14.0))
        body = PipelinePut(flow="loop", model=MODEL, trigger=TriggerBody(min_events=40))
        await pipelines.put_pipeline(session, "seed", "warehouse-loop", body)
    await _one_run(
        stage, "37 new incidents in the field, 30 ask for a run", failure="Traceback\n  ...\nJobFailed: out of memory"
    )
    await _one_run(stage, "52 new incidents in the field, 40 ask for a run", failure=None)


async def _one_run(stage: Stage, because: str, failure: str | None) -> None:
    async with stage.session() as session:
        run = await pipelines.request_run(session, "pipeline-reconciler", "warehouse-loop", RunCreate(because=because))
    stage.made.runs.append(run.id)
    async with stage.session() as session:
        claimed = await pipeline_store.claim_run(session, run.id)
        assert claimed is not None
        claimed.attempt = 1
    async with stage.session() as session:
        await pipelines.heartbeat(session, run.id, Heartbeat(attempt=1))
    steps = STEPS[:3] if failure else STEPS
    for name, seconds, compute in steps:
        state = "failed" if failure and name == "retrain" else "done"
        async with stage.session() as session:
            step = StepPut(attempt=1, state=state, seconds=seconds, compute_s=compute, note=f"{name} of 14 clips")
            await pipelines.put_step(session, run.id, name, step)
        await _job(stage, run.id, name, compute, failure if state == "failed" else None)
    async with stage.session() as session:
        if failure:
            finish = RunFinish(attempt=1, state="failed", failure=failure)
            await pipelines.finish_run(session, "pipeline", run.id, finish)
        else:
            await pipelines.put_step(session, run.id, "promote", StepPut(attempt=1, state="running", note="canary"))
            await _running_job(session, run.id)


async def _job(stage: Stage, run_id: str, kind: str, wall: float, failure: str | None) -> None:
    key = f"{kind}-{run_id[-8:]}"
    spec = JobSpec(command=["python", "-m", f"flows.{kind}"], timeout_s=600)
    stored = await stage.context.objects.put_bytes(f"output of {key}".encode())
    outputs = {"out.json": JobFile(sha256=stored.sha256, size_bytes=len(f"output of {key}"))}
    async with stage.session() as session:
        await factory.submit_job(session, JobCreate(key=key, kind=kind, run_id=run_id, subject=MODEL, spec=spec))
        await factory.start_attempt(session, key, AttemptCreate(holder="h1"))
        finish = AttemptFinish(
            attempt=1,
            holder="h1",
            outcome=Outcome.FAILED if failure else Outcome.DONE,
            outputs=outputs,
            failure=failure,
            wall_s=wall,
            cpu_s=wall * 1.7,
        )
        await factory.finish_attempt(session, stage.context.objects, key, finish)


async def _running_job(session: Session, run_id: str) -> None:
    key, spec = f"shadow-{run_id[-8:]}", JobSpec(command=["python", "-m", "flows.shadow"], timeout_s=600)
    await factory.submit_job(session, JobCreate(key=key, kind="simulate", run_id=run_id, spec=spec))
    await factory.start_attempt(session, key, AttemptCreate(holder="h1"))
    renew = AttemptRenew(attempt=1, holder="h1", progress=0.43, note="129 of 300 scenarios")
    await factory.renew_attempt(session, key, renew)


async def _canary(stage: Stage, version: VersionItem, rounds: int) -> None:
    gate = stage.made.gates[-1]
    release = await _release(stage, version, f"passed the gate {EVIL}")
    reason = "" if gate.verdict == "pass" else "the seed's gate is not the point here"
    small = "so few devices can decide nothing, and are not here to"
    await _start(stage, release, PLAN, gate_id=gate.id, override_reason=reason, plan_override=small)
    await _check_in(stage, {wire.DeploymentPhase.DOWNLOADING: 1.0})
    ways = {
        wire.DeploymentPhase.COMMITTED: 0.8,
        wire.DeploymentPhase.ARMED: 0.12,
        wire.DeploymentPhase.DOWNLOADING: 0.08,
    }
    await _check_in(stage, ways)
    await _tick(stage)
    await _drive(stage, rounds, {version.content_digest: 2.2}, hours=0.6, tick=True)


async def _open_review(stage: Stage, version: VersionItem) -> None:
    release = await _release(stage, version, "asked for by a person")
    async with stage.session() as session:
        evidence = {"verdict": "fail", "gate": stage.made.gates[0].id, "override_reason": f"night shift only {EVIL}"}
        stage.made.review = await registry.ask_approval(session, "grace", release, evidence) or ""
