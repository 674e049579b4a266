"""Builds the conda package of deploy/conda and runs the recipe's tests, without conda-forge.

    uv run --no-project --with py-rattler-build --with packaging tools/build_conda.py OUTPUT

What the recipe asks for lies in a channel of its own, in a temporary folder: this Python, and what
the registry of pip has under the names that the recipe uses. So it is shown that the recipe builds,
that its tests pass and that the list of what it needs is whole; not that conda-forge has all that,
nor that it fits together there. Needs uv, and Linux.
"""

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement
from rattler_build import PackageOutput, Stage0Recipe, ToolConfiguration, assemble_package

ROOT = Path(__file__).resolve().parent.parent
SHORT = ".".join(map(str, sys.version_info[:2]))
VERSION = ".".join(map(str, sys.version_info[:3]))
PLATFORM = "linux-64"
SITE = f"lib/python{SHORT}/site-packages"
OTHER_FILES = ("site-packages", "test", "idlelib", "__pycache__", "config-*", "*.a")
"""Of a Python's own folder, which the package does without."""


def conda_name(name: str) -> str:
    """conda-forge writes what has two words as its authors do, mostly with a dash below."""
    return re.sub(r"[-_.]+", "_", name).lower()


def python_package(staged: Path, channel: Path) -> dict:
    """This Python as a conda package."""
    base = Path(sys.base_prefix)
    (staged / "bin").mkdir(parents=True)
    shutil.copy(base / "bin" / f"python{SHORT}", staged / "bin")
    for name in ("python", "python3"):
        (staged / "bin" / name).symlink_to(f"python{SHORT}")
    ignored = shutil.ignore_patterns(*OTHER_FILES)
    shutil.copytree(base / "lib" / f"python{SHORT}", staged / "lib" / f"python{SHORT}",
                    ignore=ignored)  # fmt: skip
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy(library, staged / "lib", follow_symlinks=False)
    return packed("python", VERSION, staged, channel, [])


def packed(name: str, version: str, staged: Path, channel: Path, depends: list[str]) -> dict:
    """Makes a package of a folder; its entry in the channel's list."""
    made: PackageOutput = assemble_package(
        name, version, PLATFORM, "0", channel / PLATFORM,
        files_dir=staged, depends=depends, compression_level=1, detect_prefix=False,
    )  # fmt: skip
    content = Path(made.path).read_bytes()
    return {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "subdir": PLATFORM,
        "depends": depends,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "file": Path(made.path).name,
    }


def wheel_packages(names: list[str], folder: Path, channel: Path) -> list[dict]:
    """Packages of the registry, with what they need in turn, as conda packages."""
    together = folder / "together"
    install = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target"]
    subprocess.run([*install, together, *names], check=True)
    found = []
    for one in importlib.metadata.distributions(path=[str(together)]):
        staged = folder / one.name
        subprocess.run(
            [*install, staged / SITE, "--no-deps", f"{one.name}=={one.version}"], check=True
        )
        asked = [Requirement(text) for text in one.requires or ()]
        needed = [r for r in asked if not r.marker or r.marker.evaluate({"extra": ""})]
        depends = [f"{conda_name(r.name)} {r.specifier}".strip() for r in needed]
        depends.insert(0, f"python {SHORT}.*")
        found.append(packed(conda_name(one.name), one.version, staged, channel, depends))
    return found


def write_list(channel: Path, entries: list[Mapping]) -> None:
    for platform in (PLATFORM, "noarch"):
        (channel / platform).mkdir(parents=True, exist_ok=True)
        here = {e["file"]: e for e in entries if e["subdir"] == platform}
        text = {"info": {"subdir": platform}, "packages": {}, "packages.conda": here}
        (channel / platform / "repodata.json").write_text(json.dumps(text), "utf-8")


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        command = ["uv", "build", "--quiet", "--sdist", "--out-dir", folder / "dist", ROOT]
        subprocess.run(command, check=True)
        shutil.copytree(ROOT / "deploy" / "conda", folder / "deploy" / "conda")
        recipe = Stage0Recipe.from_file(folder / "deploy" / "conda" / "recipe.yaml")
        (variant,) = recipe.render()
        asked = variant.recipe.to_dict()["requirements"]
        names = [one for one in (*asked["host"], *asked["run"]) if not one.startswith("python")]
        channel = folder / "channel"
        entries = [python_package(folder / "python", channel)]
        entries += wheel_packages([one.replace(" ", "") for one in names], folder, channel)
        write_list(channel, entries)
        (result,) = recipe.run_build(
            tool_config=ToolConfiguration(test_strategy="native"),
            channels=[channel.as_uri()],
            output_dir=folder / "built",
        )
        output.mkdir(parents=True, exist_ok=True)
        for package in result.packages:
            print(shutil.copy(package, output))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
