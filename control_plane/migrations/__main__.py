"""Bring the database of FLEETLOOP_DATABASE_URL to the newest schema, and do nothing else."""

import sys

from control_plane.kit.settings import Settings
from control_plane.migrations.upgrade import upgrade


def main() -> None:
    url = Settings().direct_url
    if url is None:
        sys.exit("FLEETLOOP_DATABASE_URL is not set: say which database is to be migrated")
    upgrade(url)


if __name__ == "__main__":
    main()
