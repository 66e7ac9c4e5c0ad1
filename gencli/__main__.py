"""``python -m gencli``."""

import os
import sys

if sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]  # python -m puts the current folder first: a torch.py that lies there would be taken for torch

from gencli.cli import main

if __name__ == "__main__":
    sys.exit(main())
