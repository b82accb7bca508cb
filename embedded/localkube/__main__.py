"""Run the server: ``python -m localkube``."""

import sys

from localkube._cli import main

if __name__ == "__main__":
    sys.exit(main())
