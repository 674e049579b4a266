"""What the released code of the first system (ACL 2021) has beside its defaults: files of tagged
words, and the sentence losses before or after the layer of its head."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems
from lightxling.base.tree import flatten
from lightxling.config import AlignConfig, Config, ModelConfig, TokensConfig, change, only
from lightxling.config.rules import validate
from lightxling.corpus.batch import Batch
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.model import build as models
from lightxling.objectives import combine
from lightxling.objectives.combine import heads_of


def published(line: str) -> tuple[str, str]:
    """The released loader: it cuts at single spaces and does not strip the line."""
    words = []
    for word in line.lower().split(" "):
        tagged = word[-3:] in ("_en", "_fr")
        words.append(word[:-3] if tagged else word if word == "<<split>>" else "")
    cut = words.index("<<split>>")
    return " ".join(words[:cut]), " ".join(words[cut + 1 :])


LINES = (
    "The_en cat_en sleeps_en ._en <<split>> Le_fr chat_fr dort_fr ._fr\n",
    "snake_case_en is_en ok_en <<split>> c'est_fr bon_fr\n",
    "no_tag here_en <<split>> un_fr mot_fr sans_fr\n",
)


@pytest.mark.parametrize("ending", ["", "#released"])
def test_tagged_words_are_read_as_the_released_loader_does_or_without_its_slip(tmp_path, ending):
    (tmp_path / "enfr.test").write_text("".join(LINES))
    problems = Problems()
    rows = list(read_source(Source.parse(f"en-fr={tmp_path}/enfr.test{ending}"), problems))
    assert not problems.counts
    lines = LINES if ending else [line.strip() for line in LINES]
    expected = [tuple(" ".join(side.split()) for side in published(line)) for line in lines]
    assert [tuple(map(str.lower, row)) for row in rows] == expected
    assert rows[0] == ("The cat sleeps .", "Le chat dort" if ending else "Le chat dort .")


def test_lines_without_two_sides_are_counted_and_another_order_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text(LINES[0] * 20 + "a_en <<split>>\n" + "no sides_en\n")
    problems = Problems()
    assert len(list(read_source(Source.parse(f"en-fr={tmp_path}/a.txt"), problems))) == 20
    assert list(problems.counts) == [
        "side without a word of its languages",
        "line without <<split>>",
    ]
    with pytest.raises(UserError, match=r"first side is in en; write en-fr=.*a\.txt"):
        list(read_source(Source.parse(f"fr-en={tmp_path}/a.txt"), Problems()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert str(Source.parse(f"en-fr={tmp_path}/a.txt#released")).endswith("a.txt#released")


def losses(terms):
    """Terms of a batch of pairs, its vectors and the parameters, in float64."""
    model = ModelConfig(layers=0, width=8, heads=2, max_length=5, dropout=0.0)
    heads = heads_of(terms, 2)
    graphdef = models.structure(model, 30, heads)
    params = models.initialise(model, 30, jax.random.key(0), heads)
    tokens = np.random.default_rng(0).integers(3, 30, (6, 2, 5)).astype(np.int32)
    batch = jax.tree.map(jnp.asarray, Batch(tokens, np.zeros(6, np.int32)))
    _, values = combine.loss(terms, graphdef, params, batch, None)
    flat = models.encode_tokens(graphdef, params, jnp.asarray(tokens.reshape(-1, 5)), None)
    vectors = np.array(flat, np.float64).reshape(6, 2, 8).swapaxes(0, 1)
    return values, vectors, {n: np.array(p, np.float64) for n, p in flatten(params).items()}, tokens


def test_sentence_losses_after_the_layer_of_the_head():
    terms = only(
        tokens=TokensConfig(weight=1.0, kind="xtr", mask_inputs=False),
        align=AlignConfig(weight=1.0, directions="forward", after_head=True),
    )
    values, vectors, p, _ = losses(terms)
    x = vectors @ p["token_head.dense.kernel"] + p["token_head.dense.bias"]
    x = x / (1 + np.exp(-x))
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    h = x * p["token_head.norm.scale"] + p["token_head.norm.bias"]
    z = h[0] @ h[1].T
    expected = np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(z)])
    assert values["align"] == pytest.approx(expected, rel=1e-3)


def test_without_a_layer_the_sentence_vector_meets_the_table():
    terms = only(
        tokens=TokensConfig(weight=1.0, kind="xtr", mask_inputs=False, transform=False),
    )
    values, vectors, p, tokens = losses(terms)
    assert not [name for name in p if name.startswith(("token_head.dense", "token_head.norm"))]
    total = 0.0
    for side in range(2):
        for row in range(6):
            z = p["encoder.words"] @ vectors[side, row] + p["token_head.bias"]
            q = z - np.log(np.exp(z - z.max()).sum()) - z.max()
            for v in set(tokens[row, 1 - side].tolist()):
                total += 0.2 * (np.log(0.2) - q[v])
    assert values["tokens"] == pytest.approx(total / 6, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"align__after_head": True, "tokens__weight": 0.0},
            "align.after_head=True needs the layer",
        ),
        (
            {"similarity__after_head": True, "tokens__transform": False},
            "similarity.after_head=True",
        ),
        ({"align__after_head": True, "align__projection": 4}, "two heads"),
        ({"tokens__transform": False, "tokens__language_width": 4}, "no layer that would see"),
    ],
)
def test_heads_that_are_not_there_are_named(changes, message):
    config = change(Config(), **{f"objectives__{name}": value for name, value in changes.items()})
    with pytest.raises(UserError, match=message):
        validate(config)
