"""`python -m lightxling` is the command `lightxling`."""

import sys

from lightxling.cli import main

sys.exit(main())
