"""The table at the demo's end: what the field, the gate, the canary and the ledger say."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from control_plane.cli.output import literal
from control_plane.cli.story import Story
from control_plane.cli.verify import class_of, read_files
from control_plane.lineage.domain import Kind
from control_plane.registry.domain import ChainError, verify_chain

UP = {
    Kind.ROLLOUT,
    Kind.RELEASE,
    Kind.MODEL_VERSION,
    Kind.TRAINING,
    Kind.DATASET,
    Kind.RECORDING,
    Kind.FIELD_EVENT,
    Kind.DEVICE,
    Kind.GATE,
    Kind.EVALUATION,
    Kind.SUITE,
}
DOWN = {Kind.RECORDING, Kind.DATASET, Kind.TRAINING, Kind.MODEL_VERSION, Kind.RELEASE, Kind.ROLLOUT, Kind.DEVICE}


def build_report(story: Story, seconds: float, seed: int) -> dict[str, Any]:
    report: dict[str, Any] = {
        "workload": story.workload,
        "seed": seed,
        "seconds": round(seconds, 1),
        "the_field_is": "a simulation",
        "field": _field(story),
        "step_seconds": {name: round(value, 1) for name, value in story.seconds.items()},
        "overhead": _overhead(story),
        "cost": _cost(story),
        "audit_intact": story.clients["viewer"].check_audit().intact,
        "runs": {name: run.id for name, run in story.runs.items()},
    }
    for name in ("v2", "bad", "subtle"):
        if name in story.runs:
            report[name] = _gate(story, name)
    if "v2" in story.rollouts:
        report["v2"] |= {"rollout": story.rollouts["v2"].phase, "because": story.rollouts["v2"].because}
        report["lineage"] = _lineage(story)
    if "subtle" in story.rollouts:
        report["subtle"] |= _halt(story)
    report["trust"] = _trust(story)
    report["replay"] = _replay(story)
    report["pairs"] = _pairs(story, "v2")
    report["checks"] = _checks(report, story)
    report["ok"] = all(report["checks"].values())
    return report


def _trust(story: Story) -> dict[str, Any]:
    """Check what every device runs, from its own disk alone, against the root that this installation made."""
    root, broken, begun = story.stack.home / "keys" / "signed" / "1.root.json", [], time.monotonic()
    folders = sorted(path.parent for path in story.host.root.glob("*/device.json"))
    for folder in folders:
        wrong = _broken(folder, root)
        broken += [f"{folder.name}: {wrong}"] if wrong else []
    return {
        "devices": len(folders),
        "chains_hold": len(folders) - len(broken),
        "broken": broken,
        "example": str(folders[0]) if folders else "DEVICE",
        "seconds": round(time.monotonic() - begun, 2),
    }


def _replay(story: Story) -> dict[str, int]:
    """Make every kept decision of every gate and every rollout again from what was kept of it."""
    client = story.clients["viewer"]
    gates = [client.replay_gate(gate.id).same for gate in client.list_gates()]
    rollouts = [client.replay_rollout(rollout.id) for rollout in client.list_rollouts()]
    return {
        "gates": len(gates),
        "decisions": sum(made.decisions for made in rollouts),
        "different": gates.count(False) + sum(made.different for made in rollouts),
    }


def _broken(folder: Path, root: Path, tries: int = 4) -> str | None:
    """Say which link does not hold. While an agent refreshes, its files do not fit together for a moment."""
    wrong = None
    for attempt in range(tries):
        time.sleep(0.5 * min(attempt, 1))
        try:
            verify_chain(read_files(folder, root), class_of(folder), datetime.now(UTC))
        except (ChainError, OSError, ValueError) as error:
            wrong = str(error)
        else:
            return None
    return wrong


def _field(story: Story) -> dict[str, Any]:
    model = story.spec["model"]["name"]
    per, unit = (1000, "km") if story.spec["exposure"] == "distance_m" else (3600, "hour")
    gravest = [kind for kind, rule in story.spec["events"].items() if rule["severity"] == "gravest"]
    lines: dict[str, Any] = {"per": unit}
    for name in ("v1", *story.rollouts):
        content = story.versions[name].content_digest
        rate = story.clients["viewer"].rate(content, model)
        counts: dict[str, int] = {}
        for line in story.clients["viewer"].exposure(content):
            for kind, count in line.counts.items():
                counts[kind] = counts.get(kind, 0) + count
        lines[name] = {
            "incidents": rate.events,
            unit: round(rate.exposure / per, 3),
            "rate": _scaled(rate.rate, per),
            "low": _scaled(rate.low, per),
            "high": _scaled(rate.high, per),
            "counts": counts,
            "gravest_rate": _scaled(sum(counts.get(k, 0) for k in gravest) / rate.exposure, per)
            if rate.exposure
            else None,
        }
    if "v2" not in lines:
        return lines
    before, after = lines["v1"], lines["v2"]
    lines["reduction"] = round(1 - after["rate"] / before["rate"], 3) if before["rate"] else None
    lines["intervals_apart"] = bool(after["high"] is not None and after["high"] < before["low"])
    return lines


def _scaled(value: float | None, per: float) -> float | None:
    return None if value is None else round(value * per, 3)


def _gate(story: Story, name: str) -> dict[str, Any]:
    gate = story.clients["viewer"].get_gate(story.runs[name].result["gate"])
    parts = [{"suite": p.suite, "rule": p.rule, "verdict": p.verdict, "because": p.because} for p in gate.parts]
    return {"verdict": gate.verdict, "gate_because": gate.because, "attempt": gate.attempt, "parts": parts}


def _pairs(story: Story, name: str) -> dict[str, Any]:
    """Return [scenario, cluster, champion's, candidate's] value of the gate's metric for every pair, by suite."""
    viewer, metric = story.clients["viewer"], story.spec["gate"]["metric"]
    gate = viewer.get_gate(story.runs[name].result["gate"])
    sides: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for evaluation in (viewer.get_evaluation(found) for found in gate.evidence["evaluations"]):
        side = "candidate" if evaluation.content_digest == gate.candidate else "champion"
        sides.setdefault(evaluation.suite_name, {})[side] = {
            case.scenario: [case.cluster, case.metrics.get(metric)] for case in viewer.list_cases(evaluation.id)
        }
    return {
        suite: [
            [scenario, before[0], before[1], found["candidate"][scenario][1]]
            for scenario, before in found.get("champion", {}).items()
            if scenario in found["candidate"]
        ]
        for suite, found in sides.items()
    }


def _halt(story: Story) -> dict[str, Any]:
    rollout = story.rollouts["subtle"]
    halting = [d for d in story.clients["viewer"].rollout_decisions(rollout.id) if d.phase == "halting"]
    return {
        "rollout": rollout.phase,
        "because": halting[0].because if halting else rollout.because,
        "override_reason": rollout.override_reason,
        "back_on_v2": story.returned,
        "nominal": next(
            (
                p.verdict
                for p in story.clients["viewer"].get_gate(story.runs["subtle"].result["gate"]).parts
                if p.rule == "non_inferior"
            ),
            None,
        ),
    }


def _overhead(story: Story) -> dict[str, float]:
    """Seconds of the turn of the loop that were not spent in jobs, and those that were."""
    steps = [step for step in story.runs["v2"].steps.values() if step.seconds is not None]
    total = sum(step.seconds or 0.0 for step in steps)
    compute = sum(step.compute_s or 0.0 for step in steps)
    return {"loop_s": round(total, 2), "compute_s": round(compute, 2), "control_plane_s": round(total - compute, 2)}


def _cost(story: Story) -> dict[str, Any]:
    lines = story.clients["viewer"].ledger("kind").lines
    usd, joules = sum(line.usd for line in lines), sum(line.energy_j for line in lines)
    return {
        "jobs": sum(line.jobs for line in lines),
        "usd": round(usd, 5),
        "energy_kj": round(joules / 1000, 2),
        "energy_is_estimate": any(line.energy_is_estimate for line in lines),
        "usd_is_estimate": True,
    }


def _lineage(story: Story) -> dict[str, Any]:
    """Walk up from a device that runs v2, and down from one of the events v2 was trained on."""
    viewer = story.clients["viewer"]
    device = next(d.id for d in viewer.list_devices() if d.active_content == story.versions["v2"].content_digest)
    up = viewer.lineage("device", device, "up", 8)
    clips = viewer.get_dataset(story.runs["v2"].result["dataset"]).manifest["clips"]
    event = next(c["event_id"] for c in clips if c["event_id"] and c["split"] == "train")
    down = viewer.lineage("field_event", event, "down", 8)
    seen_up = {edge.source.kind for edge in up.edges}
    seen_down = {edge.target.kind for edge in down.edges}
    return {
        "device": device,
        "event": event,
        "up_edges": len(up.edges),
        "down_edges": len(down.edges),
        "missing_up": sorted(UP - seen_up),
        "missing_down": sorted(DOWN - seen_down),
        "version_reached": story.versions["v2"].content_digest in {e.target.name for e in down.edges},
    }


def _checks(report: dict[str, Any], story: Story) -> dict[str, bool]:
    """Return what the workload's demo promises and whether it came so; a workload without stages promises less."""
    trust = report["trust"]
    checks = {"audit_intact": bool(report["audit_intact"])}
    replay = report["replay"]
    checks["every_decision_replays"] = bool(replay["gates"] and replay["decisions"]) and not replay["different"]
    checks["every_chain_holds"] = trust["devices"] > 0 and trust["chains_hold"] == trust["devices"]
    if "bad" in report:
        checks["bad_candidate_stopped"] = report["bad"]["verdict"] != "pass"
    if "subtle" in report:
        field, lineage = report["field"], report["lineage"]
        robots = len(list(story.clients["viewer"].list_devices()))
        checks |= {
            "incidents_down_40_percent": (field["reduction"] or 0) >= 0.4,
            "intervals_apart": field["intervals_apart"],
            "bad_candidate_failed": report["bad"]["verdict"] == "fail",
            "subtle_passed_nominal": report["subtle"]["nominal"] == "pass",
            "subtle_candidate_halted": report["subtle"]["rollout"] == "halted",
            "devices_back_on_v2": story.returned == robots,
            "lineage_complete": lineage["version_reached"] and not lineage["missing_up"] + lineage["missing_down"],
        }
    return checks


def print_report(report: dict[str, Any], console: Console) -> None:
    unit = report["field"]["per"]
    table = Table(title=f"{report['workload']}, seed {report['seed']}: the field (a simulation)")
    for column in ("version", unit, "incidents", f"incidents/{unit} (95 %)", f"gravest/{unit}"):
        table.add_column(column, justify="left" if column == "version" else "right")
    for name in [name for name in ("v1", "v2", "subtle") if name in report["field"]]:
        line = report["field"][name]
        table.add_row(
            name,
            f"{line[unit]:.2f}",
            str(line["incidents"]),
            f"{line['rate']} ({line['low']} to {line['high']})",
            str(line["gravest_rate"]),
        )
    console.print(table)
    if "reduction" in report["field"]:
        apart = "apart" if report["field"]["intervals_apart"] else "NOT apart"
        console.print(f"v1 → v2: {report['field']['reduction']:.0%} fewer incidents per {unit}, intervals {apart}")
    for name in [name for name in ("v2", "bad", "subtle") if name in report]:
        console.print(f"[bold]gate, {name}:[/bold] {literal(report[name]['gate_because'])}")
    if "rollout" in report.get("subtle", {}):
        console.print(
            f"[bold]canary, subtle:[/bold] {literal(report['subtle']['because'])}\n"
            f"  {report['subtle']['back_on_v2']} robots back on v2"
        )
    _print_proof(report, console)
    _print_costs(report, console)
    for name, holds in report["checks"].items():
        console.print(f"  {'[green]yes[/green]' if holds else '[red]NO [/red]'} {name.replace('_', ' ')}")


def _print_proof(report: dict[str, Any], console: Console) -> None:
    trust = report["trust"]
    console.print(
        f"trust: {trust['chains_hold']} of {trust['devices']} devices prove the whole chain of what they run from "
        f"their own disk ({trust['seconds']} s, offline); try: fleetloop verify {trust['example']}",
        highlight=False,
    )
    replay = report["replay"]
    console.print(
        f"replay: {replay['gates']} gates and {replay['decisions']} decisions of rollouts made again from what was "
        f"kept of them, {replay['different']} came out otherwise",
        highlight=False,
    )
    for each in trust["broken"][:3]:
        console.print(f"  [red]{literal(each)}[/red]", highlight=False)


def _print_costs(report: dict[str, Any], console: Console) -> None:
    overhead, cost = report["overhead"], report["cost"]
    steps = ", ".join(f"{name} {value:.0f} s" for name, value in report["step_seconds"].items())
    estimate = " (estimates)" if cost["energy_is_estimate"] else ""
    console.print(
        f"steps: {steps}; all {report['seconds']:.0f} s\n"
        f"one turn of the loop: {overhead['compute_s']} s of compute, {overhead['control_plane_s']} s of "
        f"control plane\ncost: {cost['usd']} USD, {cost['energy_kj']} kJ in {cost['jobs']} jobs{estimate}"
    )
    if "lineage" in report:
        lineage = report["lineage"]
        console.print(
            f"lineage: {lineage['down_edges']} edges from event {lineage['event']} down to devices, "
            f"{lineage['up_edges']} from device {lineage['device']} up to field events"
        )
