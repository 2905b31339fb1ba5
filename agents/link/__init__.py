"""The way to the server: signed requests, strict answers, downloads that verify, uploads that stream.

It decides nothing about releases or recordings; it moves bytes and says exactly why it could not.
"""

from agents.link.backoff import Backoff
from agents.link.blobs import BlobStore
from agents.link.client import DeviceClient, new_http
from agents.link.credentials import Credentials
from agents.link.downloader import Downloader, DownloadLimits
from agents.link.errors import LinkError
from agents.link.identity import Enrolment, Identity, enrol, open_client
from agents.link.keys import DeviceKey
from agents.link.renewal import Renewal
from agents.link.reports import Reports
from agents.link.uploads import Uploader

__all__ = [
    "Backoff",
    "BlobStore",
    "Credentials",
    "DeviceClient",
    "DeviceKey",
    "DownloadLimits",
    "Downloader",
    "Enrolment",
    "Identity",
    "LinkError",
    "Renewal",
    "Reports",
    "Uploader",
    "enrol",
    "new_http",
    "open_client",
]
