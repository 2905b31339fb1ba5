"""What the gate signs: an in-toto test result per device class, made from its decision and nothing else."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from agents.protocol.v1.statement import TEST_RESULT, Resource, Result, TestResult, statement_bytes
from control_plane.evaluation.domain.values import Verdict

CLAIMS: Final = frozenset({"improves"})
"""Rules that show a benefit. All others guard against harm, and no person can talk one of those away."""


def result_of(verdict: Verdict, parts: Sequence[Mapping[str, Any]]) -> Result | None:
    """Return PASSED, WARNED where only a claimed benefit is not shown, FAILED, or None where nothing is known."""
    if verdict is Verdict.PASS:
        return Result.PASSED
    guards = [Verdict(part["verdict"]) for part in parts if part["rule"] not in CLAIMS]
    if guards and all(found is Verdict.PASS for found in guards):
        return Result.WARNED
    return Result.FAILED if Verdict.FAIL in guards else None


def gate_statement(
    *,
    content_digest: str,
    device_classes: Sequence[str],
    verdict: Verdict,
    parts: Sequence[Mapping[str, Any]],
    configuration: Mapping[str, str],
    decided_at: datetime,
) -> bytes | None:
    """Return the canonical bytes to be signed; None if the gate has nothing to say.

    `configuration` names what decided by sha256: suites (`suite:NAME`), policy, evidence.
    """
    result = result_of(verdict, parts)
    if result is None or not device_classes:
        return None
    tests: dict[str, list[str]] = {"passed": [], "warned": [], "failed": []}
    for part in parts:
        for each in device_classes:
            tests[_place(part)].append(f"{each}/{part['suite']} {part['rule']}")
    found = TestResult(
        result=result,
        configuration=tuple(Resource(name=name, digest={"sha256": sha}) for name, sha in sorted(configuration.items())),
        passed_tests=tuple(tests["passed"]),
        warned_tests=tuple(tests["warned"]),
        failed_tests=tuple(tests["failed"]),
        decided_at=decided_at,
    )
    return statement_bytes("", content_digest, TEST_RESULT, found)


def _place(part: Mapping[str, Any]) -> str:
    verdict = Verdict(part["verdict"])
    if verdict is Verdict.PASS:
        return "passed"
    return "warned" if part["rule"] in CLAIMS else "failed"
