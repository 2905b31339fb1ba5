"""The pages put together; `main.py` includes them last, because the last route answers what nobody else knows."""

from fastapi import Path
from starlette.convertors import Convertor, register_url_convertor

from control_plane.kit.errors import NotFound
from control_plane.kit.http import APIRouter, Response
from control_plane.web.edge import SeeCall, pages
from control_plane.web.pages import ROUTERS
from control_plane.web.pages.live import live
from control_plane.web.render import static_files


class PagePath(Convertor[str]):
    """Any path but those of programs, which want their failures as problems."""

    regex = r"(?!(?:api|device|objects|static)(?:/|$)|healthz$|readyz$|metrics$)(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def web_routes() -> APIRouter:
    register_url_convertor("page", PagePath())
    routes = APIRouter(include_in_schema=False)
    routes.add_api_route("/static/{name}", _static, methods=["GET"])
    routes.include_router(live)
    for router in ROUTERS:
        routes.include_router(router)
    rest = pages()
    rest.add_api_route("/{path:page}", _nothing, methods=["GET"])
    routes.include_router(rest)
    return routes


async def _static(name: str) -> Response:
    found = static_files().get(name)
    if found is None:
        return Response("there is no such file\n", 404, media_type="text/plain")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(found[0], media_type=found[1], headers=headers)


async def _nothing(call: SeeCall, path: str = Path(max_length=2000)) -> Response:
    del call  # only who is signed in is told what there is
    raise NotFound(f"there is no page /{path[:100]}")
