"""lightxling: small cross-lingual sentence encoders, trained from scratch from parallel text."""

from lightxling.base.version import __version__ as __version__

TYPE_CHECKING = False  # type checkers take it for true; `typing` itself would cost milliseconds
if TYPE_CHECKING:
    from lightxling import config, evaluate, export, train
    from lightxling.encode.encoder import Encoder

__all__ = ["Encoder", "config", "evaluate", "export", "train"]


def __getattr__(name: str) -> object:
    """What `__all__` names, imported when it is first asked for: importing the package is quick."""
    import importlib

    if name == "Encoder":
        return importlib.import_module("lightxling.encode.encoder").Encoder
    if name in __all__:
        return importlib.import_module(f"lightxling.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What TAB shows."""
    return [*__all__, "__all__", "__doc__", "__version__"]
