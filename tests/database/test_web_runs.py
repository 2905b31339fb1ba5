"""A run's page leads to its page in Prefect where somebody said where that is; notices lead to their pages."""

from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import ValidationError

from control_plane.kit.db import execute, rows
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.review import service as review
from control_plane.web.pages.runs import prefect_page
from tests.browser.seed import seed
from tests.database.test_web import Site
from tests.support.server import Server, open_server

FLOW_RUN = str(uuid4())


def test_a_run_has_a_page_in_prefect_only_if_prefect_runs_it() -> None:
    told = Settings(prefect_ui_url="https://prefect.example/")
    assert prefect_page(told, FLOW_RUN) == f"https://prefect.example/runs/flow-run/{FLOW_RUN}"
    assert prefect_page(told, None) is None
    assert prefect_page(told, "pid-17") is None
    assert prefect_page(told.model_copy(update={"orchestrator": "subprocess"}), FLOW_RUN) is None
    assert prefect_page(Settings(), FLOW_RUN) is None


@pytest.mark.parametrize(
    "wrong", ["javascript:alert(1)", "prefect.example", 'https://x"onclick="', "https://" + "x" * 500]
)
def test_an_address_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Settings(prefect_ui_url=wrong)


async def test_the_link_is_there_although_nobody_answers_at_its_end(database_url: str, tmp_path: Path) -> None:
    async with open_server(database_url, tmp_path, prefect_ui_url="http://127.0.0.1:9") as server:
        made = await seed(server.context, devices=3, history=1, canary=1)
        async with server.context.database.transaction() as session:
            await execute(session, "update pipeline_run set orchestrator_id = :id", id=FLOW_RUN)
        page = await (await Site(server, made).browser(Role.VIEWER)).get(f"/runs/{made.runs[0]}")
        assert page.status_code == 200
        link = f'<a href="http://127.0.0.1:9/runs/flow-run/{FLOW_RUN}" rel="noreferrer" target="_blank">'
        assert link in page.text


async def test_a_question_leads_whoever_is_told_of_it_to_the_reviews(server: Server) -> None:
    async with server.context.database.transaction() as session:
        await review.ask(session, "gate", "flip", "suite/1", "Is this worse?", {}, needed=1)
    async with server.context.database.transaction() as session:
        [told] = await rows(session, "select payload from kit_outbox where topic = 'review.asked'")
    assert told["payload"]["page"] == "/reviews"
