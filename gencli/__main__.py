"""``python -m gencli``."""

import sys

from gencli.cli import main

if __name__ == "__main__":
    sys.exit(main())
