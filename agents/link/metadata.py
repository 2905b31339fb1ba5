"""TUF metadata over HTTP for python-tuf's client: bounded in time, rate and encoding, and never led elsewhere.

ngclient's own fetcher has a time limit per gap only, follows redirects and unpacks what it gets; this one does not.
The bytes are bounded by ngclient itself, which stops reading at each role's limit.
"""

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from agents.link.client import USER_AGENT
from agents.protocol.v1 import strict_json

_CHUNK: Final = 64 << 10
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}


@dataclass(frozen=True)
class MetadataLimits:
    """`deadline_s` is for one file; after `grace_s` it must come at `min_bytes_per_s` at least."""

    deadline_s: float = 30.0
    gap_s: float = 10.0
    grace_s: float = 3.0
    min_bytes_per_s: float = 500.0


@dataclass(frozen=True)
class Tls:
    """PEM files: the authority to believe and, where the server asks for it, who we are."""

    ca: str
    certificate: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class BoundedFetcher(FetcherInterface):
    """Only a 404 means "there is no such file": a 403 from a box on the way must not hide a new root."""

    def __init__(self, limits: MetadataLimits | None = None, tls: Tls | None = None) -> None:
        self._limits = limits or MetadataLimits()
        self._pool = urllib3.PoolManager(num_pools=4, retries=False, ssl_context=tls.context() if tls else None)
        self.requests = 0

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a metadata file.

        Raises:
            RepositoryError: it is not JSON that reads in one way only.
        """
        data: bytes = super().download_bytes(url, max_length)
        try:
            strict_json(data, max_length)
        except ValueError as error:
            raise RepositoryError(f"{url.rsplit('/', 1)[-1][:100]}: {error}") from error
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.requests += 1
        begun = time.monotonic()
        response = self._pool.urlopen(
            "GET", url, headers=_HEADERS, redirect=False, preload_content=False, decode_content=False,
            timeout=urllib3.Timeout(connect=self._limits.gap_s, read=self._limits.gap_s),
        )  # fmt: skip
        try:
            _check(response)
        except DownloadError:
            response.close()
            raise
        return self._body(response, begun)

    def _body(self, response: urllib3.BaseHTTPResponse, begun: float) -> Iterator[bytes]:
        limits, received = self._limits, 0
        try:
            while chunk := response.read1(_CHUNK):
                received += len(chunk)
                elapsed = time.monotonic() - begun
                slow = elapsed > limits.grace_s and received < elapsed * limits.min_bytes_per_s
                if elapsed > limits.deadline_s or slow:
                    raise SlowRetrievalError(f"{received} bytes in {elapsed:.1f} s")
                yield chunk
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise DownloadError(f"the connection broke: {error}") from error
        finally:
            response.close()


def _check(response: urllib3.BaseHTTPResponse) -> None:
    if response.status == 404:
        raise DownloadHTTPError("not found", 404)
    if response.status != 200:
        raise DownloadError(f"status {response.status}")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise DownloadError(f"encoded as {encoding[:40]!r}, which was not asked for")
