"""Who may do what: every route for every role, asked of the running application and compared with what is written."""

import httpx

from control_plane.kit.roles import Role
from tests.support.browsing import form_token, signed_in
from tests.support.permissions import OWN_WAYS, PUBLIC, RULES
from tests.support.routes import Way, ways
from tests.support.server import Server

LETTERS = {"v": Role.VIEWER, "o": Role.OPERATOR, "a": Role.APPROVER, "p": Role.PIPELINE, "x": Role.ADMIN}


async def test_every_route_stands_in_the_table(server: Server) -> None:
    names = {way.name for way in ways(server.app) if not way.path.startswith(OWN_WAYS)}
    assert names == set(RULES) | PUBLIC


async def test_every_api_route_lets_in_whom_the_table_says(server: Server) -> None:
    for way in ways(server.app):
        if way.path.startswith("/api/v1"):
            assert await _api_roles(server, way) == RULES[way.name], way.name
            nameless = await server.http.request(way.method, way.filled({}))
            assert nameless.status_code == 401, way.name
            wrong = await server.http.request(way.method, way.filled({}), headers={"Authorization": "Bearer fl_no"})
            assert wrong.status_code == 401, way.name


async def _api_roles(server: Server, way: Way) -> str:
    allowed = ""
    for letter, role in LETTERS.items():
        answer = await server.call(way.method, way.filled({}).removeprefix("/api/v1"), role)
        assert answer.status_code < 500, (way.name, answer.text)
        allowed += letter if answer.status_code != 403 else ""
    return allowed


async def test_every_page_lets_in_whom_the_table_says(server: Server) -> None:
    people = {letter: await signed_in(server, role) for letter, role in LETTERS.items()}
    tokens = {letter: await form_token(person) for letter, person in people.items()}
    for way in ways(server.app):
        if way.is_page and way.name not in PUBLIC and way.path != "/logout":
            answers = {letter: await _use(people[letter], tokens[letter], way) for letter in LETTERS}
            assert all(answer.status_code < 500 for answer in answers.values()), way.name
            allowed = "".join(letter for letter, answer in answers.items() if answer.status_code != 403)
            assert allowed == RULES[way.name], way.name


async def _use(person: httpx.AsyncClient, token: str, way: Way) -> httpx.Response:
    if way.method == "GET":
        return await person.get(way.filled({}))
    return await person.post(way.filled({}), data={"form_token": token, "reason": "a try"})


async def test_every_page_sends_strangers_to_the_door(server: Server) -> None:
    for way in ways(server.app):
        if way.is_page and way.name not in PUBLIC:
            answer = await server.http.request(way.method, way.filled({}))
            assert answer.status_code == 303, way.name
            assert answer.headers["location"].startswith("/login?next=/"), way.name
