"""Rows of suites, evaluations, cases and gates."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on, insert

from control_plane.evaluation.models import (
    Evaluation,
    EvaluationCase,
    Gate,
    GateReplay,
    HoldoutUseRow,
    IncidentScenario,
    Suite,
)
from control_plane.kit.db import Row, Session, execute, rows


async def insert_suite(session: Session, values: dict[str, Any]) -> bool:
    done = await session.execute(insert(Suite).values(values).on_conflict_do_nothing().returning(Suite.digest))
    return done.first() is not None


async def find_suite(session: Session, digest: str) -> Suite | None:
    return await session.get(Suite, digest)


async def suite_names(session: Session, digests: Collection[str]) -> dict[str, str]:
    """Return names by digest, of those suites that are there."""
    query = select(Suite.digest, Suite.name).where(Suite.digest.in_(list(digests)))
    return {str(digest): str(name) for digest, name in (await session.execute(query)).all()}


async def list_suites(session: Session, model: str | None) -> Sequence[Suite]:
    query = select(Suite).order_by(Suite.created_at.desc()).limit(200)
    return (await session.scalars(query if model is None else query.where(Suite.model == model))).all()


async def insert_evaluation(session: Session, values: dict[str, Any]) -> bool:
    done = await session.execute(insert(Evaluation).values(values).on_conflict_do_nothing().returning(Evaluation.id))
    return done.first() is not None


async def find_by_key(session: Session, key: str) -> Evaluation | None:
    return await session.scalar(select(Evaluation).where(Evaluation.key == key))


async def find_evaluation(session: Session, evaluation_id: str) -> Evaluation | None:
    return await session.get(Evaluation, evaluation_id)


async def list_evaluations(session: Session, *, before: str | None, limit: int) -> Sequence[Evaluation]:
    query = select(Evaluation).order_by(Evaluation.id.desc()).limit(limit)
    return (await session.scalars(query if before is None else query.where(Evaluation.id < before))).all()


async def count_suites(session: Session, model: str, name: str) -> int:
    query = select(func.count()).where(Suite.model == model, Suite.name == name)
    return int(await session.scalar(query) or 0)


async def evidence_digests(session: Session, evaluation_id: str, scenarios: Sequence[str]) -> dict[str, str]:
    """Return what is known of these scenarios: the digest of the result that counts."""
    query = select(EvaluationCase.scenario, EvaluationCase.evidence_sha256).where(
        EvaluationCase.evaluation_id == evaluation_id, EvaluationCase.scenario.in_(scenarios)
    )
    return {row.scenario: row.evidence_sha256 for row in await session.execute(query)}


async def insert_cases(session: Session, values: list[dict[str, Any]]) -> None:
    for start in range(0, len(values), 2000):
        await session.execute(insert(EvaluationCase).values(values[start : start + 2000]).on_conflict_do_nothing())


async def cases(session: Session, evaluation_id: str) -> Sequence[EvaluationCase]:
    query = select(EvaluationCase).where(EvaluationCase.evaluation_id == evaluation_id)
    return (await session.scalars(query)).all()


async def find_case(session: Session, evaluation_id: str, scenario: str) -> EvaluationCase | None:
    return await session.get(EvaluationCase, (evaluation_id, scenario))


async def done_scenarios(session: Session, evaluation_id: str) -> set[str]:
    query = select(EvaluationCase.scenario).where(EvaluationCase.evaluation_id == evaluation_id)
    return set((await session.scalars(query)).all())


async def means(session: Session, evaluation_id: str) -> Sequence[Row]:
    return await rows(
        session,
        """select key, avg(value::float8) as mean from evaluation_case, jsonb_each_text(metrics)
           where evaluation_id = :id and status = 'ok' group by key order by key""",
        id=evaluation_id,
    )


async def evaluations_of(session: Session, content: str, limit: int) -> Sequence[Evaluation]:
    query = select(Evaluation).where(Evaluation.content_digest == content).order_by(Evaluation.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


async def count_cases(session: Session, evaluation_id: str) -> int:
    query = select(func.count()).select_from(EvaluationCase).where(EvaluationCase.evaluation_id == evaluation_id)
    return int(await session.scalar(query) or 0)


async def paired_means(session: Session, first: str, second: str) -> Sequence[Row]:
    """Return means by metric over the scenarios in which both evaluations have a usable value of it."""
    return await rows(
        session,
        """select m.key as metric, count(*) as scenarios, avg(m.value::float8) as first, avg(n.value::float8) as second,
                  bool_and(m.value::float8 in (0, 1) and n.value::float8 in (0, 1)) as yes_or_no,
                  count(*) filter (where n.value::float8 > m.value::float8) as higher,
                  count(*) filter (where n.value::float8 < m.value::float8) as lower
           from evaluation_case a
           join evaluation_case b on b.evaluation_id = :second and b.scenario = a.scenario and b.status = 'ok',
                jsonb_each_text(a.metrics) m, jsonb_each_text(b.metrics) n
           where a.evaluation_id = :first and a.status = 'ok' and n.key = m.key group by m.key order by m.key""",
        first=first,
        second=second,
    )


async def find_gate_by_key(session: Session, key: str) -> Gate | None:
    return await session.scalar(select(Gate).where(Gate.key == key))


async def find_gate(session: Session, gate_id: str) -> Gate | None:
    return await session.get(Gate, gate_id)


async def lock_gates(session: Session, model: str) -> None:
    """One gate of a model at a time, so that the same question asked twice at once is one gate and one attempt."""
    await execute(session, "select pg_advisory_xact_lock(hashtextextended('gate:' || :model, 0))", model=model)


async def count_others(session: Session, model: str, candidate: str) -> int:
    """Count the other versions of a model that were put before the gate."""
    query = select(func.count(func.distinct(Gate.candidate))).where(Gate.model == model, Gate.candidate != candidate)
    return int(await session.scalar(query) or 0)


async def list_gates(session: Session, *, candidate: str | None, before: str | None, limit: int) -> Sequence[Gate]:
    query = select(Gate).order_by(Gate.id.desc()).limit(limit)
    if candidate is not None:
        query = query.where(Gate.candidate == candidate)
    return (await session.scalars(query if before is None else query.where(Gate.id < before))).all()


async def count_looks(session: Session, suites: Sequence[str], candidate: str) -> dict[str, int]:
    """Count by suite digest the other candidates that were judged by it."""
    found = await rows(
        session,
        """select suite, count(distinct candidate) as n
           from evaluation_gate, jsonb_array_elements_text(evidence->'suites') suite
           where suite = any(cast(:suites as text[])) and candidate <> :candidate group by suite""",
        suites=list(suites),
        candidate=candidate,
    )
    return {line["suite"]: int(line["n"]) for line in found}


async def kept_gates(session: Session, model: str | None = None, limit: int = 500) -> Sequence[Row]:
    """Return the newest gates whose evidence was kept, without their parts and flips, which are large."""
    return await rows(
        session,
        """select id, model, candidate, champion, verdict, predicted, evidence_sha256 from evaluation_gate
           where evidence_sha256 <> '' and (cast(:model as text) is null or model = :model)
           order by id desc limit :limit""",
        model=model,
        limit=limit,
    )


async def holdout_uses(session: Session, model: str, suite: str) -> Sequence[HoldoutUseRow]:
    query = select(HoldoutUseRow).where(HoldoutUseRow.model == model, HoldoutUseRow.suite == suite)
    return (await session.scalars(query.order_by(HoldoutUseRow.at))).all()


async def put_holdout_use(session: Session, values: dict[str, Any]) -> None:
    """Write a look down; the first answer stands."""
    await session.execute(insert(HoldoutUseRow).values(values).on_conflict_do_nothing())


async def replays(session: Session, gates: Sequence[str]) -> Sequence[GateReplay]:
    query = select(GateReplay).where(GateReplay.gate_id.in_(gates)).order_by(GateReplay.created_at)
    return (await session.scalars(query)).all()


async def put_replay(session: Session, values: dict[str, Any]) -> GateReplay:
    """Write a replay down; the newest stands."""
    key = ("gate_id", "suite", "scenario", "side")
    statement = insert(GateReplay).values(values)
    kept = {name: statement.excluded[name] for name in values if name not in key} | {"created_at": func.now()}
    made = statement.on_conflict_do_update(index_elements=key, set_=kept).returning(GateReplay)
    return (await session.scalars(made, execution_options={"populate_existing": True})).one()


async def find_scenario(session: Session, model: str, source: str) -> IncidentScenario | None:
    return await session.get(IncidentScenario, (model, source))


async def put_scenario(session: Session, values: dict[str, Any]) -> None:
    statement = insert(IncidentScenario).values(values)
    kept = {key: statement.excluded[key] for key in values if key not in ("model", "source")}
    await session.execute(
        statement.on_conflict_do_update(index_elements=["model", "source"], set_=kept | {"changed_at": func.now()})
    )
    await session.flush()
    session.expire_all()


async def list_scenarios(session: Session, model: str) -> Sequence[IncidentScenario]:
    query = select(IncidentScenario).where(IncidentScenario.model == model).order_by(IncidentScenario.source)
    return (await session.scalars(query.limit(10_000))).all()


async def newest_suites(session: Session, model: str) -> Sequence[Suite]:
    """Return the newest suite of every name."""
    query = select(Suite).where(Suite.model == model).order_by(Suite.name, Suite.created_at.desc())
    return (await session.scalars(query.ext(distinct_on(Suite.name)))).all()


async def simulated(session: Session, contents: Sequence[str]) -> Sequence[Row]:
    """Return (evaluation_id, content_digest, run_id, job_key, episodes) of what was simulated with some contents."""
    return await rows(
        session,
        """select e.id as evaluation_id, e.content_digest, e.run_id, c.job_key, count(*) as episodes
           from evaluation e join evaluation_case c on c.evaluation_id = e.id
           where e.content_digest = any(cast(:contents as text[])) group by 1, 2, 3, 4 order by 1, 4""",
        contents=list(contents),
    )


async def weighed(session: Session, candidates: Sequence[str]) -> Sequence[Row]:
    """Return what other versions' simulations gates of candidates weighed, by job.

    Lines are (candidate, evaluation_id, content_digest, run_id, job_key, episodes, used). `used` are the episodes whose
    scenario has a result of the candidate too: a gate compares pairs.
    """
    return await rows(
        session,
        """with read as (
               select distinct g.candidate, used.id
               from evaluation_gate g cross join lateral jsonb_array_elements_text(
                   case when jsonb_typeof(g.evidence -> 'evaluations') = 'array' then g.evidence -> 'evaluations'
                        else '[]' end) as used (id)
               where g.candidate = any(cast(:candidates as text[]))),
           own as (
               select distinct read.candidate, e.suite, c.scenario
               from read join evaluation e on e.id = read.id and e.content_digest = read.candidate
                         join evaluation_case c on c.evaluation_id = e.id)
           select read.candidate, e.id as evaluation_id, e.content_digest, e.run_id, c.job_key,
                  count(*) as episodes, count(own.scenario) as used
           from read join evaluation e on e.id = read.id and e.content_digest <> read.candidate
                     join evaluation_case c on c.evaluation_id = e.id
                left join own on own.candidate = read.candidate and own.suite = e.suite and own.scenario = c.scenario
           group by 1, 2, 3, 4, 5 order by 1, 2, 5""",
        candidates=list(candidates),
    )
