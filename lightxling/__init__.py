"""lightxling: small cross-lingual sentence encoders, trained from scratch from parallel text."""

from lightxling.base.version import __version__

__all__ = ["Encoder", "__version__"]


def __getattr__(name: str):
    """`lightxling.Encoder`, imported when it is first asked for: importing the package is quick."""
    if name == "Encoder":
        from lightxling.encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What TAB shows."""
    return sorted({*globals(), *__all__})
