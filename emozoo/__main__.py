"""``python -m emozoo``: the command line without its script."""

import sys

from emozoo.cli import main

sys.exit(main())
