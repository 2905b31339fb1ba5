"""The way to the server: signed requests, strict answers, downloads that verify, uploads that stream.

It decides nothing about releases or recordings; it moves bytes and says exactly why it could not.
"""

from agents.link.backoff import Backoff
from agents.link.blobs import BlobStore
from agents.link.client import DeviceClient, new_http
from agents.link.downloader import Downloader, DownloadLimits
from agents.link.errors import LinkError
from agents.link.identity import Enrolment, Identity, enrol
from agents.link.keys import DeviceKey
from agents.link.uploads import Uploader

__all__ = [
    "Backoff",
    "BlobStore",
    "DeviceClient",
    "DeviceKey",
    "DownloadLimits",
    "Downloader",
    "Enrolment",
    "Identity",
    "LinkError",
    "Uploader",
    "enrol",
    "new_http",
]
