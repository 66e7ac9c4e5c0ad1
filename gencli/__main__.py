"""``python -m gencli``."""

import sys

from gencli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
