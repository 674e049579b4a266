"""`python -m lightxling` is the command `lightxling`."""

import sys

from lightxling.cli import script

sys.exit(script())
