"""``python -m checkpoint_manager``: the same as the command ``checkpoint-manager``."""

import sys

from checkpoint_manager.cli import main

if __name__ == "__main__":
    sys.exit(main())
