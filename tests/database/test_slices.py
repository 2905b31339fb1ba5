from pathlib import Path

from control_plane.kit.roles import Role
from tests.support.server import open_server


async def test_api_answers_with_problems_and_roles(database_url: str, tmp_path: Path) -> None:
    async with open_server(database_url, tmp_path) as server:
        refused = await server.http.get("/api/v1/devices")
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
        forbidden = await server.call("POST", "/jobs", Role.VIEWER, json={})
        assert forbidden.status_code in (403, 422)
        for path in (
            "/devices",
            "/events",
            "/recordings",
            "/datasets",
            "/trainings",
            "/models",
            "/releases",
            "/suites",
            "/evaluations",
            "/gates",
            "/rollouts",
            "/baselines",
            "/pipelines",
            "/runs",
            "/reviews",
            "/jobs",
            "/clusters",
            "/ledger",
            "/audit",
            "/audit/check",
            "/exposure",
            "/devices/summary",
            "/device-classes",
        ):
            assert (await server.call("GET", path, Role.VIEWER)).status_code == 200, path
