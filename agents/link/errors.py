"""One kind of failure for everything between here and the server."""


class LinkError(Exception):
    """A request that gave no usable answer.

    `reason` is a code for machines and reports; the message is for people. `status` is the HTTP status where there was
    one; `retry_after_s` is the server's wish.
    """

    def __init__(
        self, reason: str, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def refused(self) -> bool:
        """Whether the server understood and said no: the same request again gets the same answer."""
        return self.status in {400, 409, 413, 415, 422}
