"""An installation of whatever code is first on the path: HOME PORT DEVICE_PORT [--as-it-is]; it ends with its stdin.

With `--as-it-is` the database is taken as it is, as programs do that were not yet replaced when it was migrated.
"""

import sys
from pathlib import Path

from control_plane.cli import stack as stacks


def main() -> None:
    home, port, device_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if "--as-it-is" in sys.argv:
        stacks.upgrade = lambda _: None
    options = stacks.StackOptions(
        home=home, port=port, device_port=device_port, orchestrator="subprocess", check_in_s=1.0, tick_s=0.3
    )
    stack = stacks.Stack(options)
    try:
        stack.start()
        print(stacks.__file__, flush=True)
        sys.stdin.read()
    finally:
        stack.stop()


if __name__ == "__main__":
    main()
