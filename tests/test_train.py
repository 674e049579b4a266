"""The whole run: resuming after kill -9, signals, refusals, many devices."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config.files import differences, to_dict
from lightxling.config.schema import Config, MeshConfig
from lightxling.config.settings import change
from lightxling.corpus.batch import Batch
from lightxling.corpus.prepare import prepare
from lightxling.corpus.store import Store
from lightxling.corpus.tokenizer import load_tokenizer
from lightxling.model import build as models
from lightxling.objectives.combine import heads_of
from lightxling.saved import checkpoint
from lightxling.saved.bundle import load_bundle
from lightxling.saved.workdir import alone_in
from lightxling.train.loop import train
from lightxling.train.micro_batch import value_and_grad
from lightxling.train.optimizer import learning_rate, make_optimizer
from lightxling.train.profile import Trace
from lightxling.train.record import check_finite
from lightxling.train.sharding import make_mesh, put_batch, shardings
from lightxling.train.state import initial_state, seed_data
from lightxling.train.step import make_train_step
from lightxling.train.tasks import make_batches


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def files(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a run's last checkpoint, by name."""
    step = checkpoint.steps(path / "checkpoints")[-1]
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore((path / "checkpoints" / str(step)).absolute())
    return {
        jax.tree_util.keystr(k): np.array(v) for k, v in jax.tree_util.tree_leaves_with_path(tree)
    }


def command(config: Config, workdir: Path) -> list[str]:
    """`lightxling train` with every setting of `config` given on the command line."""
    recipe = workdir.with_suffix(".py")
    recipe.write_text(
        "from lightxling.config import Config, from_dict\n"
        f"config = from_dict(Config, {to_dict(config)!r})\n"
    )
    return [sys.executable, "-m", "lightxling.cli", "train", str(recipe), "--workdir", str(workdir)]


def environment() -> dict[str, str]:
    return {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PLATFORMS": "cpu"}


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def straight(corpus, tmp_path_factory):
    """Lazily filled cache of the uninterrupted run, shared by the tests that compare with it."""
    return {"path": tmp_path_factory.mktemp("straight") / "run"}


def run_straight(tiny, straight) -> Path:
    path = straight["path"]
    if not path.exists():
        subprocess.run(command(tiny, path), env=environment(), check=True, capture_output=True)
    return path


def test_a_killed_run_resumes_to_the_same_bits(tiny, straight, tmp_path):
    whole = files(run_straight(tiny, straight))
    run = tmp_path / "run"
    process = subprocess.Popen(command(tiny, run), env=environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: checkpoint.steps(run / "checkpoints"), process)
    process.kill()
    process.wait()
    assert checkpoint.steps(run / "checkpoints") == [6]
    subprocess.run(command(tiny, run), env=environment(), check=True, capture_output=True)
    resumed = files(run)
    assert resumed.keys() == whole.keys()
    for name in whole:
        np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)
    assert [r["step"] for r in records(run)] == [2, 4, 6, 8, 10, 12]
    losses = [[r["loss"] for r in records(path)] for path in (run, straight["path"])]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_saves_and_exits_0(tiny, tmp_path, number):
    config = change(tiny, train__pairs=16 * 100_000, train__checkpoint_every=100_000)
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(config, run), env=environment(), stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: (run / "metrics.jsonl").exists() and records(run), process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    step = checkpoint.steps(run / "checkpoints")[-1]
    assert f"stopped at step {step:,}" in output


def test_what_a_run_leaves_behind(tiny, straight):
    run = run_straight(tiny, straight)
    saved = json.loads((run / "config.json").read_text())
    assert saved["languages"] == ["aa", "bb"]
    assert saved["config"]["train"]["pairs"] == 192
    assert (run / "tokenizer.model").is_file()
    assert list(run.glob("events.*"))
    assert checkpoint.steps(run / "checkpoints") == [6, 12]
    assert checkpoint.is_whole(run / "best")
    assert {"tokens", "align", "similarity", "learning_rate", "pairs_per_second"} <= set(
        records(run)[0]
    )
    assert "dev_p@1/aa-bb" in records(run)[-1]
    padding = [record["padding"] for record in records(run)]
    assert all(0.6 < share < 0.9 for share in padding)  # 4 to 13 pieces and more in 32 slots


def test_a_finished_run_trains_no_further(tiny, straight):
    run = run_straight(tiny, straight)
    before = records(run)
    train(tiny, run)
    assert records(run) == before


@pytest.mark.parametrize("field", ["train__batch_size", "model__width", "optimizer__l2"])
def test_another_config_is_refused_and_named(tiny, straight, field):
    run = run_straight(tiny, straight)
    part, name = field.split("__")
    other = change(tiny, **{field: 2 * getattr(getattr(tiny, part), name)})
    with pytest.raises(UserError, match=f"{part}.{name}"):
        train(other, run)


def test_length_and_logging_may_change_where_the_schedule_allows(tiny):
    longer = change(tiny, train__pairs=999, train__log_every=7)
    assert differences(tiny, longer) == {}
    cosine = change(tiny, optimizer__schedule="cosine")
    assert list(differences(cosine, change(cosine, train__pairs=999))) == ["train.pairs"]


def damage(folder: Path) -> None:
    """Flips a bit of the largest file."""
    victim = max(folder.rglob("*"), key=lambda f: f.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tiny, straight, tmp_path, capsys):
    run = tmp_path / "copy"
    shutil.copytree(run_straight(tiny, straight), run)
    damage(run / "checkpoints" / "12")
    train(tiny, run)
    assert "damaged" in capsys.readouterr().out
    whole, repaired = files(straight["path"]), files(run)
    # One device wrote the run and eight repaired it; AMSGrad makes rounding visible where the
    # gradient is rounding alone (the bias of attention keys).
    for name in whole:
        np.testing.assert_allclose(repaired[name], whole[name], atol=1e-3, err_msg=name)


@pytest.mark.parametrize("which", ["checkpoints/6", "6", "checkpoints/12", "last", "best"])
def test_a_damaged_checkpoint_is_loaded_under_no_name(tiny, straight, tmp_path, which):
    run = tmp_path / "copy"
    shutil.copytree(run_straight(tiny, straight), run)
    place, checkpoint_ = (run / which, None) if "/" in which else (run, which)
    folders = {"6": ["checkpoints/6"], "last": ["checkpoints/6", "checkpoints/12"]}
    for folder in folders.get(which, [which]):
        damage(run / folder)
    with pytest.raises(UserError, match="damaged"):
        load_bundle(place, checkpoint_)


def test_settings_and_tokenizer_that_were_altered_are_refused(tiny, straight, tmp_path):
    """The parameters fit them all the same: the vectors would be others."""
    run = tmp_path / "run"
    shutil.copytree(run_straight(tiny, straight), run)
    about = json.loads((run / "config.json").read_text())
    content = bytearray((run / "tokenizer.model").read_bytes())
    content[100] ^= 1
    (run / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer.model is damaged"):
        load_bundle(run)
    about["config"]["model"]["max_length"] += 1
    (run / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"config.json is damaged: its sha256"):
        load_bundle(run)


def test_only_what_save_wrote_is_a_checkpoint(tmp_path):
    """What a person put there is neither counted, nor renamed, nor deleted."""
    for name in ("007", "3", "4", "5", "10", "9.old", "notes.old", "x.writing", "٣", "3.kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "8").write_text("a file")
    assert checkpoint.steps(tmp_path) == [3, 4, 5, 10]
    checkpoint.prune(tmp_path, 2)
    checkpoint.set_aside(tmp_path, 6)
    kept = {"007", "5", "10.damaged", "8", "notes.old", "x.writing", "٣", "3.kept"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_what_follows_a_damaged_checkpoint_is_kept(tiny, straight, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(run_straight(tiny, straight), run)
    damage(run / "checkpoints" / "12")
    one = change(tiny, train__keep=1, train__checkpoint_every=1, train__pairs=16 * 8)
    train(one, run)
    assert checkpoint.latest_whole(run / "checkpoints") == 8
    damage(run / "checkpoints" / "8")
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        train(one, run)
    assert (run / "best").is_dir()


def test_a_run_is_not_gone_on_with_on_other_text(tiny, corpus, tmp_path):
    rows = corpus.read_text().splitlines(keepends=True)
    text, dev = tmp_path / "made.tsv", tmp_path / "dev.tsv"
    text.write_text("".join(rows[:500]))
    dev.write_text("".join(rows[500:550]))
    config = change(tiny, corpus__sources=(f"aa-bb={text}",), corpus__dev=(f"aa-bb={dev}",))
    run = tmp_path / "run"
    train(config, run)
    moved = tmp_path / "moved.tsv"
    dev.rename(moved)
    same = change(config, corpus__dev=(f"aa-bb={moved}",))
    train(same, run)  # the same text at another place
    dev.write_text("".join(rows[500:590]))
    with pytest.raises(UserError, match=r"other sentences .* its dev pairs have changed"):
        train(config, run)
    dev.write_text("".join(rows[500:550]))
    train(config, run)  # the same text with another date


def test_a_folder_is_trained_in_by_one_process(tiny, tmp_path):
    run = tmp_path / "run"
    with alone_in(run), pytest.raises(UserError, match="another process is training in"):
        train(tiny, run)
    assert not run.exists()  # nothing came of it
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"is not a folder that can be written to"):
        train(tiny, tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"train.epochs=0.001"):
        train(change(tiny, train__pairs=0, train__epochs=0.001), run)
    assert not run.exists()


def test_three_languages_in_a_row_are_no_pairs(tiny, tmp_path):
    config = change(tiny, corpus__sources=("en-fr-de=no/such/file.tsv",))
    with pytest.raises(UserError, match=r"'en-fr-de=no/such/file.tsv': training reads pairs"):
        train(config, tmp_path / "run")


def test_non_finite_loss_stops_and_keeps_the_last_checkpoint(tiny, tmp_path):
    exploding = change(
        tiny, optimizer__learning_rate=1e30, optimizer__warmup_steps=0, train__checkpoint_every=1
    )
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"step \d+: .*not finite"):
        train(exploding, run)
    step = checkpoint.latest_whole(run / "checkpoints")
    assert step is not None
    assert all(np.isfinite(x).all() for x in files(run).values())
    assert differences(exploding, change(exploding, train__skip_nonfinite=3)) == {}


def test_skipped_steps_are_counted_and_bounded():
    good = {"finite": True, "step": 1, "loss": 1.0, "grad_norm": 1.0, "tokens": 1.0}
    bad = {"finite": False, "step": 2, "loss": np.nan, "grad_norm": np.nan, "tokens": np.inf}
    assert check_finite([good, bad], ["tokens"], 1, 0) == 1
    with pytest.raises(UserError, match="step 2: tokens is not finite"):
        check_finite([good, bad], ["tokens"], 1, 1)


def step_on(mesh_config, config, vocab=64, devices=None):
    """Loss terms and parameters after two steps on a mesh."""
    mesh = make_mesh(mesh_config, batch_size=config.train.batch_size, devices=devices)
    schedule = learning_rate(config.optimizer, steps=10, steps_per_epoch=10)
    optimizer = make_optimizer(config.optimizer, schedule)
    initialise = functools.partial(initial_state, config, vocab, optimizer)
    layout = shardings(mesh, jax.eval_shape(initialise))
    state = jax.jit(initialise, out_shardings=layout)()
    graphdef = models.structure(config.model, vocab, heads_of(config.objectives, 2))
    gradient = value_and_grad(config.objectives, graphdef, config.train.micro_batch)
    step = make_train_step(gradient, optimizer, seed=0)
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, vocab, (config.train.batch_size, 2, 7)).astype(np.int32)
    masked = rng.integers(0, 14, config.train.batch_size).astype(np.int32)
    history = []
    for _ in range(2):
        state, metrics = step(state, put_batch(Batch(tokens, masked), mesh, len(tokens)))
        history.append(jax.device_get(metrics))
    return history, jax.device_get(state.params), state


def test_seed_rate_and_length_are_no_part_of_the_program(tiny):
    """A sweep over them compiles once: the compilation cache finds programs by their text."""
    batch = Batch(jax.ShapeDtypeStruct((16, 2, 7), "int32"), jax.ShapeDtypeStruct((16,), "int32"))
    programs = set()
    for seed, rate, steps, schedule in [
        (0, 1e-3, 10, "cosine"),
        (7, 1e-4, 99, "cosine"),
        (7, 1e-4, 99, "linear"),
    ]:
        config = change(tiny, optimizer__learning_rate=rate, optimizer__schedule=schedule)
        at = learning_rate(config.optimizer, steps=steps, steps_per_epoch=3)
        optimizer = make_optimizer(config.optimizer, at)
        initialise = functools.partial(initial_state, config, 64, optimizer)
        graphdef = models.structure(config.model, 64, heads_of(config.objectives, 2))
        gradient = value_and_grad(config.objectives, graphdef)
        step = make_train_step(gradient, optimizer, seed)
        programs.add(step.lower(jax.eval_shape(initialise), batch).as_text())
    assert len(programs) == 2  # one for each kind of schedule


def test_the_seed_given_as_data_is_that_of_the_settings(tiny):
    config = change(tiny, train__seed=12345)
    schedule = learning_rate(config.optimizer, steps=2, steps_per_epoch=1)
    make = functools.partial(initial_state, config, 64, make_optimizer(config.optimizer, schedule))
    one, other = jax.jit(make)(), jax.jit(make)(seed=seed_data(12345))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_many_devices_give_the_losses_and_gradients_of_one(tiny, shape):
    config = change(tiny, optimizer__name="adamw", optimizer__learning_rate=1e-3)
    if shape[1] > 1:
        config = change(config, model__pooling="weighted")
        tokens = dataclasses.replace(config.objectives.tokens, vocab_block=0)
        config = dataclasses.replace(
            config, objectives=dataclasses.replace(config.objectives, tokens=tokens)
        )
    single, params, _ = step_on(MeshConfig(1, 1), config, devices=jax.devices()[:1])
    many, split_params, state = step_on(MeshConfig(*shape), config)
    for a, b in zip(single, many, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=2e-5, atol=1e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params, split_params)
    split = [leaf.sharding.spec for leaf in jax.tree.leaves(state.params["encoder"])]
    words = state.params["encoder"]["words"].sharding.spec
    assert (words[0] == "model") if shape[1] > 1 else (not any(words))
    assert sum(map(any, split)) == (2 if shape[1] > 1 else 0)  # the table, a weight for each piece


def test_a_checkpoint_restores_onto_other_devices(tiny, tmp_path):
    _, params, state = step_on(MeshConfig(8, 1), tiny)
    checkpoint.save(tmp_path / "1", state.params)
    mesh = make_mesh(MeshConfig(4, 2), batch_size=8)
    layout = shardings(mesh, state.params)
    target = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state.params, layout
    )
    restored = checkpoint.restore(tmp_path / "1", target)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), params)
    assert restored["encoder"]["words"].sharding == layout["encoder"]["words"]


def test_a_checkpoint_of_another_model_is_refused(tiny, tmp_path):
    checkpoint.save(tmp_path / "1", {"a": jnp.zeros(3)})
    with pytest.raises(UserError, match="does not fit"):
        checkpoint.restore(tmp_path / "1", {"a": jax.ShapeDtypeStruct((4,), jnp.float32)})


def test_the_best_so_far_survives_a_kill_between_the_two_renamings(tmp_path, monkeypatch):
    best = tmp_path / "best"
    checkpoint.save(best, {"a": jnp.zeros(3)})
    rename = Path.rename

    def killed(self, target):
        if self.name.endswith(".writing"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(best, {"a": jnp.ones(3)})
    monkeypatch.undo()
    assert not best.exists()
    target = {"a": jax.ShapeDtypeStruct((3,), jnp.float32)}
    np.testing.assert_array_equal(
        checkpoint.load_params(tmp_path, "best", target)[0]["a"], np.zeros(3)
    )
    checkpoint.recover(best)
    assert checkpoint.is_whole(best)
    np.testing.assert_array_equal(checkpoint.restore(best, target)["a"], np.zeros(3))
    checkpoint.save(best, {"a": jnp.ones(3)})
    checkpoint.recover(best)  # there is nothing to bring back
    np.testing.assert_array_equal(checkpoint.restore(best, target)["a"], np.ones(3))


def test_mesh_and_batch_must_fit_the_devices():
    with pytest.raises(UserError, match="does not fit 8 cpu"):
        make_mesh(MeshConfig(data=3, model=1), batch_size=6)
    with pytest.raises(UserError, match=r"batch_size=20 does not divide .* try 16 or 24"):
        make_mesh(MeshConfig(data=8, model=1), batch_size=20)


def test_too_little_text_for_one_batch(tiny, tmp_path):
    with pytest.raises(UserError, match="do not fill one batch"):
        train(change(tiny, train__batch_size=2048), tmp_path / "run")


def test_padding_is_the_share_of_empty_slots(tiny, tmp_path):
    """One line of metrics over an epoch's batches, counted again from the batches."""
    config = change(tiny, train__log_every=3, train__pairs=16 * 3, train__profile_steps=2)
    train(config, tmp_path / "run")
    store = Store.open(prepare(config))
    batches = make_batches(config, store, load_tokenizer(store.tokenizer_path).maskable())
    tokens = np.concatenate([batches[step].tokens for step in range(3)])
    (record,) = records(tmp_path / "run")
    assert record["padding"] == pytest.approx(np.mean(tokens == 0))
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))  # the trace of two steps


def test_a_trace_begins_after_the_warm_up_and_ends_with_the_run(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("on"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("off"))

    def traced(**settings):
        """Steps of which a trace would be written."""
        steps, is_on = [], False
        with Trace(tmp_path, **settings) as trace:
            for step in range(settings["start"] + 1, settings["stop"] + 1):
                trace.before(step, jnp.zeros(()))
                is_on = calls[-1:] == ["on"]
                steps += [step] * is_on
        assert calls == (["on", "off"] if steps else [])
        calls.clear()
        return steps

    assert traced(start=10, stop=100, count=3) == [16, 17, 18]
    assert traced(start=0, stop=4, count=3) == [2, 3, 4]
    assert traced(start=0, stop=2, count=30) == [1, 2]
    assert traced(start=0, stop=9, count=0) == []
