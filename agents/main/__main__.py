"""`python -m agents.main`."""

import sys

from agents.main.cli import main

if __name__ == "__main__":
    sys.exit(main())
