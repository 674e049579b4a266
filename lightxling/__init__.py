"""lightxling: small cross-lingual sentence encoders, trained from scratch from parallel text."""

from typing import TYPE_CHECKING

from lightxling.base.version import __version__

if TYPE_CHECKING:
    from lightxling.encoder import Encoder

__all__ = ["Encoder", "__version__"]


def __getattr__(name: str) -> object:
    """`lightxling.Encoder`, imported when it is first asked for: importing the package is quick."""
    if name == "Encoder":
        from lightxling.encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What TAB shows."""
    return sorted(__all__)
