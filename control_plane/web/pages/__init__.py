"""One module per part of the loop; each has a router of pages."""

from control_plane.web.pages.audit import audit_pages
from control_plane.web.pages.compare import compare
from control_plane.web.pages.devices import devices
from control_plane.web.pages.doors import doors
from control_plane.web.pages.events import events
from control_plane.web.pages.evidence import evidence
from control_plane.web.pages.fleet import fleet
from control_plane.web.pages.fleet_actions import fleet_actions
from control_plane.web.pages.fleet_plan import fleet_plan
from control_plane.web.pages.installation import installation
from control_plane.web.pages.lineage import lineage_pages
from control_plane.web.pages.live import found
from control_plane.web.pages.models import models
from control_plane.web.pages.overview import overview
from control_plane.web.pages.people import people
from control_plane.web.pages.recorded import recorded
from control_plane.web.pages.records import records
from control_plane.web.pages.releases import releases
from control_plane.web.pages.replays import replays
from control_plane.web.pages.reviews import reviews
from control_plane.web.pages.rollouts import rollouts
from control_plane.web.pages.runs import runs
from control_plane.web.pages.tokens import tokens
from control_plane.web.pages.webhooks import webhooks
from control_plane.web.pages.wizard import wizard

# Of two that match, the first route answers: the names under /fleet come before the devices.
FIELD = (doors, overview, fleet, fleet_actions, fleet_plan, devices, recorded, events)
JUDGEMENT = (evidence, replays, wizard, rollouts, reviews, models, compare, releases, lineage_pages)
RECORDS = (runs, records, audit_pages, people, tokens, webhooks, installation, found)
ROUTERS = (*FIELD, *JUDGEMENT, *RECORDS)

__all__ = ["ROUTERS"]
