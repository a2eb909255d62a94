"""``python -m sparselm``: the command line."""

import sys

from sparselm.cli import main

sys.exit(main())
