"""Server-rendered pages for operators: reads services, draws, posts people's wishes and answers."""

from control_plane.web.app import web_routes

__all__ = ["web_routes"]
