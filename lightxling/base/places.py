"""Where a model lies. It is named by its folder, or by its name if it is in the package.

The encoders of the package are the folders beside the code that hold an export: nobody keeps a
list. Their names are understood wherever a model is. What is computed with them lies beside the
files of the user, never in the package.
"""

import difflib
import functools
import os
import warnings
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import PACKAGE, recover

PARAMETERS, DESCRIPTION, TOKENIZER = "model.safetensors", "config.json", "tokenizer.model"
MODULES = "modular.json"
"""Describes the folder of `lightxling modular`, which holds an encoder for each language."""
DEFAULT = "static"
"""The encoder that is used where none is named."""
EVALUATION = "evaluation"
"""Folder for results: in that of a run or an export; here for an encoder of the package."""


@functools.cache
def packaged() -> dict[str, Path]:
    """The folder of every encoder in the package by its name, the default first."""
    found = sorted(path.parent for path in PACKAGE.glob(f"*/{PARAMETERS}"))
    found = [path for path in found if (path / DESCRIPTION).is_file()]
    return {path.name: path for path in sorted(found, key=lambda path: path.name != DEFAULT)}


def locate(model: str | os.PathLike[str] | None) -> Path:
    """The folder that a path or the name of an encoder in the package stands for.

    A folder of that name wins, as it is what stands there; a warning says so.

    Args:
      model: None stands for the default.

    Raises:
      UserError: it is empty, or a folder without a model hides the encoder of that name.
    """
    if model is None:
        return packaged()[DEFAULT]
    if not os.fspath(model):  # of a shell variable that is not set
        raise UserError("the path of the model is empty; give the folder of a run or of an export")
    path = Path(model)
    inside = packaged().get(str(path))
    if inside is None:
        return folder_of(path)
    if not path.is_dir():
        return inside
    if path.resolve() != inside.resolve():
        if not any((path / name).is_file() for name in (DESCRIPTION, MODULES)):
            raise UserError(
                f"the folder {path} that is here has no model, and hides the encoder {path} in the "
                f"package; rename it, work in another folder, or name the encoder as {inside}"
            )
        warnings.warn(
            f"{path} is the model in the folder of that name here, not the encoder in the package, "
            f"which is {inside}",
            stacklevel=2,
        )
    return path


def folder_of(path: Path) -> Path:
    """The folder of a model, which may be named by the file of its parameters."""
    return path.parent if path.name == PARAMETERS else path


def name_in_package(folder: Path) -> str | None:
    """Name of the encoder in the package that a folder is, if it is one."""
    found = packaged().get(folder.resolve().name)
    return found.name if found and found.resolve() == folder.resolve() else None


def results_of(folder: Path) -> Path:
    """Where results of a model lie: in its folder, or under evaluation/NAME here."""
    name = name_in_package(folder)
    return Path(EVALUATION, name) if name else folder / EVALUATION


def find_model(
    path: str | os.PathLike[str] | None, checkpoint: str | int | None
) -> tuple[Path, str | int | None]:
    """The folder of a model, and the checkpoint: the path may name it, as RUN/best does and
    RUN/checkpoints/STEP."""
    path = locate(path)
    recover(path)
    if not os.path.exists(path):  # also of names that are too long
        raise UserError(f"no model at {path}; {other_names(path)}")
    if not path.is_dir():
        raise UserError(f"{path} is a file; a model is the folder of a run or of an export")
    if checkpoint is None and not (path / DESCRIPTION).is_file():
        if path.name == "best" and (path.parent / DESCRIPTION).is_file():
            return path.parent, "best"
        if path.parent.name == "checkpoints" and (path.parent.parent / DESCRIPTION).is_file():
            return path.parent.parent, path.name
    if (path / MODULES).is_file():
        raise UserError(
            f"{path} holds an encoder for each language; give the run of one of them: "
            f"{path}/LANGUAGE/align, or sentence for the pivot"
        )
    return path, checkpoint


def other_names(path: Path) -> str:
    """What may be given in place of a path at which there is nothing."""
    way_out = "give the folder of a run or of an export"
    if len(path.parts) > 1:
        return way_out
    near = difflib.get_close_matches(str(path), packaged(), n=1)
    hint = f"perhaps you meant {near[0]}: " if near else ""
    return f"{hint}{way_out}, or an encoder in the package: {', '.join(packaged())}"
