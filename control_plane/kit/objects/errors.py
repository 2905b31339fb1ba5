"""What can go wrong with an object, each as one of the house's kinds of problem."""

from control_plane.kit.errors import Forbidden, Invalid, NotFound, Problem, TooLarge, Unavailable


class ObjectMissingError(NotFound):
    code = "object_missing"


class CorruptObjectError(Problem):
    """The bytes are not those that the digest names: nobody may use them."""

    code = "object_corrupt"


class InvalidDigestError(Invalid):
    code = "invalid_digest"


class InvalidNameError(Invalid):
    code = "invalid_object_name"


class ObjectTooLargeError(TooLarge):
    code = "object_too_large"


class BadUrlError(Forbidden):
    """A signed URL that is expired, altered, or for something else."""

    code = "bad_object_url"


class StoreUnavailableError(Unavailable):
    code = "object_store_unavailable"
