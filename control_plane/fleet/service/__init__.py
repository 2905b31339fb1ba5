"""Let devices in, know them again, keep what they say of themselves."""

from control_plane.fleet.service.callers import Callers
from control_plane.fleet.service.check_ins import CLONE_REVIEW, MAX_COUNTER, go_on, quarantine_clone, see
from control_plane.fleet.service.devices import (
    get_device,
    label,
    list_devices,
    members_of,
    patch_device,
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

__all__ = [
    "CLONE_REVIEW",
    "CONFLICT_REVIEW",
    "MAX_COUNTER",
    "SAYS",
    "Callers",
    "Identities",
    "Known",
    "MadeUp",
    "Quiet",
    "Rules",
    "Said",
    "add_simulated",
    "authenticate",
    "certify",
    "check_recording",
    "create_token",
    "decide_conflict",
    "deny_key",
    "enrol",
    "get_device",
    "go_on",
    "label",
    "list_classes",
    "list_conflicts",
    "list_denied",
    "list_devices",
    "list_statements",
    "members_of",
    "must_be_only_simulated",
    "name_of",
    "patch_device",
    "put_class",
    "quarantine_clone",
    "recognise",
    "remove_simulated",
    "renew",
    "see",
    "simulated_boot",
    "simulated_id",
    "statement",
    "strata",
    "summary",
    "take_report",
    "unheard",
]
