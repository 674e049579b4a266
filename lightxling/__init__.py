"""lightxling: small cross-lingual sentence encoders, trained from scratch from parallel text."""

from lightxling.base.version import __version__ as __version__


def __getattr__(name: str):
    """`lightxling.Encoder`, imported when it is first asked for: importing the package is quick."""
    if name == "Encoder":
        from lightxling.encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
