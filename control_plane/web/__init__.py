"""Server-rendered pages for operators: reads services, draws, posts people's wishes and answers."""

from control_plane.web.app import web_routes
from control_plane.web.pulse import CHANNEL, Pulse

__all__ = ["CHANNEL", "Pulse", "web_routes"]
