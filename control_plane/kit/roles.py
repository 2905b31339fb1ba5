"""What a token may do."""

from enum import StrEnum


class Role(StrEnum):
    """What a token may do. `admin` may do everything but approve in another's name."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    PIPELINE = "pipeline"
    ADMIN = "admin"


MAY: dict[Role, frozenset[Role]] = {
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.VIEWER, Role.OPERATOR}),
    Role.APPROVER: frozenset({Role.VIEWER, Role.APPROVER}),
    Role.PIPELINE: frozenset({Role.VIEWER, Role.PIPELINE}),
    Role.ADMIN: frozenset(Role),
}
