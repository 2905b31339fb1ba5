"""A runner that dies: sees one job through on a configured cluster.

CLUSTERS_YAML HOME KEY; server and token by the environment.
"""

import os
import sys
from pathlib import Path

from control_plane.client import Client
from flows.runners.back_ends.configured import open_clusters

if __name__ == "__main__":
    client = Client(os.environ["FLEETLOOP_SERVER"], os.environ["FLEETLOOP_TOKEN"])
    clusters = open_clusters(client, Path(sys.argv[2]), sys.argv[1])
    print(clusters.submit(client.get_job(sys.argv[3])).result(120).state, flush=True)
