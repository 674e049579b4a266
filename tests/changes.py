"""Settings of a test that differ from those of its fixture."""

import dataclasses
from typing import TypeVar

Settings = TypeVar("Settings")


def change(settings: Settings, **changes) -> Settings:
    """change(config, train__pairs=3): a dataclass with fields of its parts replaced."""
    for key, value in changes.items():
        part, field = key.split("__")
        replaced = dataclasses.replace(getattr(settings, part), **{field: value})
        settings = dataclasses.replace(settings, **{part: replaced})
    return settings
