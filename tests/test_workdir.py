"""The folder of a run: whose commit it names, and what is refused before anything is read."""

import importlib.util
import json
import shutil
import subprocess
import threading
from pathlib import Path

import jax
import pytest

from lightxling.base import processes
from lightxling.base.errors import UserError
from lightxling.config.files import to_dict
from lightxling.config.objectives import RegressionConfig, only
from lightxling.config.settings import change
from lightxling.saved import workdir
from lightxling.saved.workdir import refuse_another_run
from lightxling.train.loop import train
from lightxling.train.plan import Due, Plan

SILENT = lambda line: None  # noqa: E731


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit_of(copy: Path) -> str | None:
    spec = importlib.util.spec_from_file_location("copied", copy / Path(workdir.__file__).name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.commit()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_a_checkout_of_this_package_only(tmp_path):
    """Installed within a checkout of something else, as a virtual environment often is, it has
    none."""
    copy = tmp_path / "project" / "venv" / "lightxling"
    shutil.copytree(Path(workdir.__file__).parent, copy)
    assert commit_of(copy) is None  # no checkout at all
    git(tmp_path / "project", "init", "-q")
    (tmp_path / "project" / "main.c").touch()
    git(tmp_path / "project", "add", "main.c")
    git(tmp_path / "project", "commit", "-q", "-m", "of something else")
    assert commit_of(copy) is None
    git(tmp_path / "project", "add", "venv")
    git(tmp_path / "project", "commit", "-q", "-m", "of the package")
    assert commit_of(copy) == git(tmp_path / "project", "rev-parse", "HEAD")


def describe(config, run: Path, **more) -> None:
    """Writes what tells that `run` is one with the settings `config`."""
    run.mkdir()
    about = {"config": to_dict(config), "store": {"tokenizer": "0"}, **more}
    (run / "config.json").write_text(json.dumps(about))


def test_other_settings_are_refused_before_anything_is_read(tiny, tmp_path):
    """The sources, the run to start from and the teacher of the new settings do not exist."""
    config = change(tiny, corpus__store=str(tmp_path / "stores"))
    describe(config, tmp_path / "run")
    nowhere = str(tmp_path / "nowhere")
    other = change(
        config,
        corpus__sources=(f"aa-bb={nowhere}.tsv",),
        train__init_from=nowhere,
        objectives=only(regression=RegressionConfig(weight=1.0)),
        teacher__source=nowhere,
        teacher__priority=("aa",),
    )
    with pytest.raises(UserError, match=r"other settings:\n[^$]*corpus\.sources"):
        train(other, tmp_path / "run")
    assert not (tmp_path / "stores").exists()


def test_the_same_sources_in_another_place_are_the_same_run(tiny, tmp_path):
    describe(tiny, tmp_path / "run", data={"": "hash"})
    describe(tiny, tmp_path / "old")  # whose sentences nobody compares

    def ask(*sources, run="run"):
        refuse_another_run(tmp_path / run, change(tiny, corpus__sources=sources))

    ask("aa-bb=elsewhere.tsv")
    for sources, run in [
        (("aa-bb@2=elsewhere.tsv",), "run"),
        (("bb-aa=elsewhere.tsv",), "run"),
        (("aa-bb=elsewhere.tsv", "aa-bb=more.tsv"), "run"),
        (("aa-bb=elsewhere.tsv",), "old"),
    ]:
        with pytest.raises(UserError, match=r"other settings:\n  corpus\.sources"):
            ask(*sources, run=run)


def test_another_tokenizer_is_refused_before_a_teacher_is_asked(tiny, tmp_path, monkeypatch):
    describe(tiny, tmp_path / "run")
    asked = []
    monkeypatch.setattr("lightxling.train.plan.ask", lambda *_: asked.append(1))
    with pytest.raises(UserError, match="another tokenizer"):
        train(tiny, tmp_path / "run")
    assert not asked


def test_what_follows_a_step(tiny, tmp_path, monkeypatch):
    """12 steps, of which every second is logged and every sixth measured and saved."""
    plan, stop = Plan.open(tiny, tmp_path / "run", SILENT), threading.Event()
    assert [n for n in range(1, 13) if plan.due(n, stop)] == [2, 4, 6, 8, 10, 12]
    assert plan.due(4, stop) == Due(dev=False, save=False, stop=False)
    assert plan.due(6, stop) == plan.due(12, stop) == Due(dev=True, save=True, stop=False)
    stop.set()
    assert plan.due(1, stop) == Due(dev=False, save=True, stop=True)
    assert plan.due(12, stop) == Due(dev=True, save=True, stop=False)  # the end anyway

    calls = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "any_of_all", lambda flag: calls.append(flag) or True)
    stop.clear()
    assert plan.due(3, stop) is None
    assert not calls
    assert plan.due(4, stop) == Due(dev=False, save=True, stop=True)  # it came to the other one
    assert calls == [False]
