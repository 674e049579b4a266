"""Settings of a test that differ from those of its fixture."""

import dataclasses
from typing import TypeVar

Settings = TypeVar("Settings")


def change(settings: Settings, **changes) -> Settings:
    """change(config, train__pairs=3, tasks=()): a dataclass with fields, also of its parts,
    replaced."""
    for key, value in changes.items():
        part, _, field = key.partition("__")
        if field:
            value = dataclasses.replace(getattr(settings, part), **{field: value})
        settings = dataclasses.replace(settings, **{part: value})
    return settings
