"""Let devices in, know them again, keep what they say of themselves."""

from control_plane.fleet.service.bulk import AT_ONCE_MOST, BulkAsk, act, check, select
from control_plane.fleet.service.callers import Callers
from control_plane.fleet.service.check_ins import CLONE_REVIEW, MAX_COUNTER, go_on, quarantine_clone, see
from control_plane.fleet.service.devices import (
    floors_above,
    get_device,
    label,
    list_devices,
    members_of,
    patch_device,
    running,
    serials,
    strata,
    summary,
    unheard,
)
from control_plane.fleet.service.enrolment import (
    CONFLICT_REVIEW,
    create_token,
    decide_conflict,
    enrol,
    list_classes,
    list_conflicts,
    put_class,
)
from control_plane.fleet.service.identities import Identities, Known, Rules, authenticate, recognise
from control_plane.fleet.service.keys import certify, deny_key, list_denied, renew
from control_plane.fleet.service.listing import count_fleet, list_fleet, plan_fleet
from control_plane.fleet.service.quiet import Quiet, Said, name_of
from control_plane.fleet.service.simulated import (
    SAYS,
    MadeUp,
    add_simulated,
    must_be_only_simulated,
    remove_simulated,
    simulated_boot,
    simulated_id,
)
from control_plane.fleet.service.statements import check_recording, list_statements, statement, take_report
from control_plane.fleet.service.sweep import SLICE, fold, sweep
from control_plane.fleet.service.views import list_views, remove_view, save_view
from control_plane.fleet.store.listing import measures

__all__ = [
    "AT_ONCE_MOST",
    "CLONE_REVIEW",
    "CONFLICT_REVIEW",
    "MAX_COUNTER",
    "SAYS",
    "SLICE",
    "BulkAsk",
    "Callers",
    "Identities",
    "Known",
    "MadeUp",
    "Quiet",
    "Rules",
    "Said",
    "act",
    "add_simulated",
    "authenticate",
    "certify",
    "check",
    "check_recording",
    "count_fleet",
    "create_token",
    "decide_conflict",
    "deny_key",
    "enrol",
    "floors_above",
    "fold",
    "get_device",
    "go_on",
    "label",
    "list_classes",
    "list_conflicts",
    "list_denied",
    "list_devices",
    "list_fleet",
    "list_statements",
    "list_views",
    "measures",
    "members_of",
    "must_be_only_simulated",
    "name_of",
    "patch_device",
    "plan_fleet",
    "put_class",
    "quarantine_clone",
    "recognise",
    "remove_simulated",
    "remove_view",
    "renew",
    "running",
    "save_view",
    "see",
    "select",
    "serials",
    "simulated_boot",
    "simulated_id",
    "statement",
    "strata",
    "summary",
    "sweep",
    "take_report",
    "unheard",
]
