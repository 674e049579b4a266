"""What a run is: its settings, and the recipes that set them."""

# ruff: noqa: F403
from lightxling.config.files import *
from lightxling.config.objective import *
from lightxling.config.objectives import *
from lightxling.config.plan import *
from lightxling.config.schema import *
from lightxling.config.settings import *
