"""Somebody at a browser, played by httpx: signed in, with a form token at hand."""

import re
from html.parser import HTMLParser

import httpx

from control_plane.kit.roles import Role
from tests.support.server import BASE, Server

FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


def browser(server: Server) -> httpx.AsyncClient:
    """Return a browser of somebody who has not signed in."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(server.app, raise_app_exceptions=False), base_url=BASE, follow_redirects=False
    )


async def signed_in(server: Server, role: Role) -> httpx.AsyncClient:
    made = browser(server)
    answer = await made.post("/login", data={"token": server.tokens[role]})
    assert answer.status_code == 303, answer.text
    return made


async def form_token(made: httpx.AsyncClient, path: str = "/ledger") -> str:
    found = FORM_TOKEN.search((await made.get(path)).text)
    assert found
    return found[1]


class Parts(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    @property
    def links(self) -> list[str]:
        return [attrs["href"] for tag, attrs in self.tags if tag == "a" and "href" in attrs]
