"""Trees of dicts, and the dotted names of their leaves."""

from collections.abc import Mapping
from typing import Any


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}, "c": [{"d": 2}]} -> {"a.b": 1, "c.0.d": 2}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = dict(enumerate(value))
        is_table = isinstance(value, Mapping)
        flat.update(flatten(value, f"{prefix}{key}.") if is_table else {f"{prefix}{key}": value})
    return flat


def nest(flat: Mapping[str, Any]) -> dict[Any, Any]:
    """The inverse of `flatten` for trees without lists; digits become integer keys."""
    tree: dict[Any, Any] = {}
    for name, value in flat.items():
        *folders, last = (int(part) if part.isdecimal() else part for part in name.split("."))
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = value
    return tree
