"""The adapters of an encoder alone, a file each, for `Encoder.load`."""

from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import write_json
from lightxling.saved import adapters
from lightxling.saved.bundle import DESCRIPTION, Bundle


def check(bundle: Bundle) -> None:
    """Finds out early whether there is something to write."""
    if not bundle.config.adapters:
        raise UserError("the encoder has no adapters to export")


def write(bundle: Bundle, folder: Path) -> None:
    """Writes the files, and a description that tells the folder from others."""
    names = [adapter.name for adapter in bundle.config.adapters]
    for name in names:
        adapters.write(bundle, name, folder / f"{name}{adapters.SUFFIX}")
    write_json(folder / DESCRIPTION, {"format": adapters.FORMAT, "adapters": names})
