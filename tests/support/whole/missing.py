"""What this machine lacks for the whole layout."""

import shutil

from tests.bench.nginx import PROGRAM as NGINX
from tests.clusters import ray_cluster, slurm_cluster
from tests.kit.objects.servers import CEPH
from tests.support.whole.database import binaries


def why_not() -> str | None:
    """Say what has to be installed first; None if everything is here."""
    reasons = [slurm_cluster.why_not(), ray_cluster.why_not()]
    if binaries() is None:
        reasons.append("no PostgreSQL server here; on Debian: apt-get install postgresql")
    if NGINX is None:
        reasons.append("no nginx here; on Debian: apt-get install nginx-light")
    if not all(shutil.which(program) for program in CEPH):
        reasons.append("no Ceph here; on Debian: apt-get install ceph-mon ceph-osd radosgw ceph-common")
    return "; ".join(reason for reason in reasons if reason) or None
