"""Packages that the plain install does without: each comes with an extra, which errors name."""

import contextlib
import importlib.util
from collections.abc import Iterator

from lightxling.base.errors import UserError

EXTRAS = {
    "array_record": "tfds",
    "backports": "formats",
    "faiss": "faiss",
    "flatbuffers": "export",
    "flax": "train",
    "grain": "train",
    "h11": "serve",
    "jax": "train",
    "jaxlib": "train",
    "jaxtyping": "train",
    "libtpu": "tpu",
    "mtdata": "mtdata",
    "mteb": "mteb",
    "onnx": "export",
    "optax": "train",
    "orbax": "train",
    "prometheus_client": "serve",
    "py3langid": "lid",
    "pyarrow": "ray",
    "ray": "ray",
    "rich": "train",
    "scipy": "train",
    "sentence_transformers": "sentence-transformers",
    "starlette": "serve",
    "tensorboardX": "train",
    "tensorflow_datasets": "tfds",
    "tokenizers": "tokenizers",
    "torch": "sentence-transformers",
    "translate": "formats",
    "uvicorn": "serve",
}
"""The extra of pyproject.toml that brings a package, by the name under which it is imported."""


def require(what: str, *packages: str) -> None:
    """Finds out early whether packages are installed; imports none.

    Args:
      what: that needs them, such as a command.

    Raises:
      UserError: names what lacks, and the command that installs it.
    """
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    if lacking:
        extras = ",".join(sorted({EXTRAS[name] for name in lacking}))
        raise UserError(f'{what} needs {", ".join(lacking)}: pip install "lightxling[{extras}]"')


@contextlib.contextmanager
def needed_by(what: str) -> Iterator[None]:
    """The same for imports within the block, whichever they are.

    Raises:
      UserError: a package of an extra is missing; says so of `what`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS or importlib.util.find_spec(package) is not None:
            raise
        extra = EXTRAS[package]
        raise UserError(f'{what} needs {package}: pip install "lightxling[{extra}]"') from error
