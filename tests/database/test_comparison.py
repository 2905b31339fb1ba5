"""Two versions are compared over the scenarios that both were driven in, and in suites that are the same."""

from control_plane.evaluation import service, store
from control_plane.kit.db import Session
from tests.support.server import Server

A, B = "a" * 64, "b" * 64


async def _suite(session: Session, digest: str, name: str) -> None:
    values = {"digest": digest, "name": name, "kind": "regression", "model": "m", "simulator": "s", "size_bytes": 1}
    await store.insert_suite(session, values | {"scenarios": [["s1", "c"], ["s2", "c"]], "tags": {}})


async def _driven(session: Session, name: str, content: str, suite: str, results: dict[str, tuple[str, float]]) -> None:
    plain = {"id": name, "key": name, "content_digest": content, "model_sha256": content, "suite": suite}
    await store.insert_evaluation(session, plain)
    case = {"evaluation_id": name, "cluster": "c", "seed": 1, "evidence_sha256": "", "job_key": "j"}
    await store.insert_cases(
        session,
        [
            case | {"scenario": scenario, "status": status, "metrics": {"incident": value, "duration_s": 10 + value}}
            for scenario, (status, value) in results.items()
        ],
    )


async def test_means_are_over_common_scenarios_only(server: Server) -> None:
    async with server.context.database.transaction() as session:
        await _suite(session, "1" * 64, "nominal")
        await _suite(session, "2" * 64, "nominal")
        first = {"s1": ("ok", 1.0), "s2": ("ok", 0.0), "s3": ("ok", 1.0), "s4": ("error", 1.0)}
        await _driven(session, "eval_1", A, "1" * 64, first)
        await _driven(session, "eval_2", B, "1" * 64, {"s1": ("ok", 0.0), "s2": ("ok", 0.0), "s4": ("ok", 1.0)})
        await _driven(session, "eval_3", A, "2" * 64, {"s1": ("ok", 1.0)})  # B was never driven in this one
        (found,) = await service.compare(session, A, B)
        assert await service.compare(session, A, "c" * 64) == []
    assert (found.suite, found.suite_name) == ("1" * 64, "nominal")
    assert (found.first_scenarios, found.second_scenarios, found.common_scenarios) == (4, 3, 2)
    by_name = {metric.metric: metric for metric in found.metrics}
    assert (by_name["incident"].first, by_name["incident"].second) == (0.5, 0.0)
    assert (by_name["incident"].higher, by_name["incident"].lower, by_name["incident"].yes_or_no) == (0, 1, True)
    assert by_name["duration_s"].yes_or_no is False
