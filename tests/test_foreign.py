"""Encoders of other programs come in with the vectors that they have there."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
from export_samples import WORDS

from lightxling.config.schema import (
    Config,
    CorpusConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from lightxling.corpus.foreign_pieces import NEW, order_of, renumbered
from lightxling.encode.encoder import Encoder
from lightxling.export.formats import write_format
from lightxling.export.trim import thin_out, trim_vocabulary
from lightxling.model.forward import erf
from lightxling.train.loop import train

TEXT = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(40)]
TEXT += ["Ünder the İstanbul… ﬁne — ½ 12.5%", "the cat " * 60, "👍🏽 \u0e19\u0e49\u0e33"]
WORD_PIECE = {
    "version": "1.0",
    "truncation": {"max_length": 8},
    "padding": {"pad_id": 4},
    "added_tokens": [
        {"id": i, "content": name, "special": True}
        for i, name in enumerate(["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]"])
    ],
    "normalizer": None,
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]},
        },
    },
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "vocab": {
            name: i
            for i, name in enumerate(
                ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "a", "##b", "dog"]
            )
        },
    },
}


def test_erf_is_that_of_the_library():
    x = np.linspace(-6, 6, 2001, dtype=np.float32)
    expected = [math.erf(value) for value in x.tolist()]
    np.testing.assert_allclose(erf(x.copy()), expected, atol=4e-7)


def test_the_first_three_pieces_are_padding_unknown_and_mask():
    order = order_of(WORD_PIECE, {})
    assert order == [4, 0, 3, 1, 2, 5, 6, 7]
    found = renumbered(WORD_PIECE, order)
    assert list(found["model"]["vocab"])[:4] == ["[PAD]", "[UNK]", "[MASK]", "[CLS]"]
    assert {token["content"]: token["id"] for token in found["added_tokens"]} == {
        "[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "[CLS]": 3, "[SEP]": 4,
    }  # fmt: skip
    around = found["post_processor"]["special_tokens"]
    assert (around["[CLS]"]["ids"], around["[SEP]"]["ids"]) == ([3], [4])
    assert found["truncation"] is found["padding"] is None


def test_pieces_go_and_missing_special_ones_come():
    content = copy.deepcopy(WORD_PIECE)
    del content["model"]["vocab"]["[MASK]"], content["added_tokens"][3]
    content["post_processor"] = {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]}
    assert order_of(content, {}) == [4, 0, NEW, 1, 2, 5, 6, 7]
    found = renumbered(content, [4, 0, NEW, 1, 2, 7])
    assert list(found["model"]["vocab"].values()) == list(range(6))
    assert found["model"]["vocab"]["dog"] == 5
    assert "a" not in found["model"]["vocab"]
    assert found["post_processor"]["cls"] == ["[CLS]", 3]


def test_bpe_keeps_the_merges_of_the_pieces_that_stay():
    content = {
        "added_tokens": [],
        "model": {
            "type": "BPE",
            "unk_token": None,
            "vocab": {"a": 0, "b": 1, "ab": 2, "abb": 3},
            "merges": ["a b", ["ab", "b"]],
        },
    }
    found = renumbered(content, [NEW, NEW, NEW, 0, 1, 2])
    assert found["model"]["merges"] == [["a", "b"]]
    unigram = {"model": {"type": "Unigram", "unk_id": 1, "vocab": [["x", -1.0], ["<unk>", 0.0]]}}
    assert order_of(unigram, {}) == [NEW, 1, NEW, 0]
    found = renumbered(unigram, [NEW, 1, NEW, 0])["model"]
    assert (found["unk_id"], found["vocab"][3]) == (1, ["x", -1.0])


def fast(kind):
    """A tokenizer of the library, trained on a few words, with the special pieces of its kind."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers import trainers as t

    text = [" ".join(np.random.default_rng(i).choice(WORDS, 8)) for i in range(500)]
    if kind == "wordpiece":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.train_from_iterator(text, t.WordPieceTrainer(vocab_size=400, special_tokens=special))
        pairs = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=pairs
        )
    elif kind == "unigram":
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        made = Tokenizer(models.Unigram())
        made.normalizer = normalizers.NFKC()
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = t.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>")
        made.train_from_iterator(text, trainer)
        made.add_special_tokens(["<mask>"])  # after the others, as in XLM-R
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    else:
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = t.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
        made.train_from_iterator(text, trainer)
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


KINDS = {
    "bert mean": ("wordpiece", "BertModel", "mean", False, {}),
    "labse": ("wordpiece", "BertModel", "cls", True, {}),
    "relu, max": ("wordpiece", "BertModel", "max", False, {"hidden_act": "relu"}),
    "xlm-r": ("unigram", "XLMRobertaModel", "mean", False, {"layer_norm_eps": 1e-3}),
    "roberta": ("bytes", "RobertaModel", "cls", False, {"layer_norm_eps": 1e-5}),
    "e5, a prompt": ("unigram", "XLMRobertaModel", "mean", False, {"prompt": "the cat: "}),
}


def foreign(folder, kind, name, pooling, is_dense, changes):
    """A model of random weights, saved by sentence-transformers itself."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    library = pytest.importorskip("sentence_transformers")
    models = pytest.importorskip("sentence_transformers.models")

    changes = dict(changes)
    prompt = changes.pop("prompt", "")
    made = fast(kind)
    names = made.get_vocab()
    pad = "[PAD]" if "[PAD]" in names else "<pad>"
    special = {"pad_token": pad, "unk_token": pad.replace("PAD", "UNK").replace("pad", "unk")}
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=40, **special
    )
    config = getattr(transformers, name.replace("Model", "Config"))(
        vocab_size=made.get_vocab_size() + 5, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=48, max_position_embeddings=44,
        type_vocab_size=2 if kind == "wordpiece" else 1, pad_token_id=names[pad], **changes,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, name)(config)
    for values in model.parameters():  # biases and norms, too, as training leaves them
        values.data += 0.2 * torch.randn_like(values)
    model.save_pretrained(folder / "raw")
    wrapped.save_pretrained(folder / "raw")
    parts = [models.Transformer(str(folder / "raw"), max_seq_length=40)]
    parts.append(models.Pooling(32, pooling_mode=pooling))
    if is_dense:
        parts.append(models.Dense(32, 32, activation_function=torch.nn.Tanh()))
    options = {"prompts": {"query": prompt}, "default_prompt_name": "query"} if prompt else {}
    whole = library.SentenceTransformer(
        modules=[*parts, models.Normalize()], device="cpu", **options
    )
    whole.save(str(folder / "st"))
    return library.SentenceTransformer(str(folder / "st"), device="cpu")


pytestmark = [
    pytest.mark.filterwarnings("ignore:a sentence is longer"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.export
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_encoder_of_another_program_has_its_vectors(kind, tmp_path):
    """As it is there, written as ours, and given back to the other program."""
    there = foreign(tmp_path, *kind).encode(TEXT)
    here = Encoder.load(tmp_path / "st")
    np.testing.assert_allclose(here.encode(TEXT), there, atol=1e-5)
    assert not here.encode("").any()
    for format in ("safetensors", "sentence-transformers"):
        (tmp_path / format).mkdir()
        write_format(here.bundle, tmp_path / format, format)
        again = Encoder.load(tmp_path / format)
        np.testing.assert_allclose(again.encode(TEXT), there, atol=1e-5)
    from sentence_transformers import SentenceTransformer

    back = SentenceTransformer(str(tmp_path / "sentence-transformers"), device="cpu")
    np.testing.assert_allclose(back.encode(TEXT), there, atol=1e-5)
    in_jax = Encoder(here.bundle, backend="jax")
    np.testing.assert_allclose(in_jax.encode(TEXT), there, atol=1e-5)


@pytest.mark.export
def test_onnx_of_an_encoder_of_another_program(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    there = foreign(tmp_path, *KINDS["labse"]).encode(TEXT[:8])
    (tmp_path / "onnx").mkdir()
    write_format(Encoder.load(tmp_path / "st").bundle, tmp_path / "onnx", "onnx")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "onnx" / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "onnx" / "model.onnx"))
    said = session.get_modelmeta()
    assert said.producer_name == "lightxling"
    assert said.custom_metadata_map["max_length"] == "40"
    assert said.custom_metadata_map["normalized"] == "false"
    for text, vector in zip(TEXT[:8], there, strict=True):
        ids = np.array([tokenizer.encode(text).ids])
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (found,) = session.run(["sentence_embedding"], inputs)
        np.testing.assert_allclose(found[0] / np.linalg.norm(found), vector, atol=1e-5)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["bert mean", "xlm-r", "roberta"])
def test_fewer_pieces_leave_the_text_as_it_was(kind, tmp_path):
    foreign(tmp_path, *KINDS[kind])
    bundle = Encoder.load(tmp_path / "st").bundle
    small = trim_vocabulary(bundle, [("en", text) for text in TEXT[:6]])
    assert small.vocab_size < bundle.vocab_size
    np.testing.assert_allclose(
        Encoder(small).encode(TEXT[:6]), Encoder(bundle).encode(TEXT[:6]), atol=1e-6
    )


@pytest.mark.export
def test_a_run_starts_from_an_encoder_of_another_program(tmp_path, capsys):
    """Cut to one layer; next to nothing is learnt, so that the vectors are those of the start."""
    foreign(tmp_path, *KINDS["labse"])
    small = thin_out(Encoder.load(tmp_path / "st").bundle, 1)
    np.testing.assert_array_equal(
        small.params["blocks.0.up.kernel"],
        Encoder.load(tmp_path / "st").bundle.params["blocks.0.up.kernel"],
    )
    (tmp_path / "small").mkdir()
    write_format(small, tmp_path / "small", "safetensors")
    lines = [f"{a}\t{b}\n" for a, b in itertools.pairwise(TEXT) if a != b]
    (tmp_path / "some.en-fr.tsv").write_text("".join(lines), "utf-8")
    config = Config(
        corpus=CorpusConfig(
            sources=(f"en-fr={tmp_path / 'some.en-fr.tsv'}",),
            dev_share=0.2,
            store=str(tmp_path / "stores"),
        ),
        model=ModelConfig(
            layers=1,
            width=32,
            heads=4,
            feedforward=48,
            max_length=40,
            activation="gelu",
            pooling="cls",
            dense=True,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-30, warmup_steps=0, schedule="constant"),
        train=TrainConfig(
            init_from=str(tmp_path / "small"), pairs=8, batch_size=8, buckets=(40,), dev_every=1
        ),
    )
    train(config, tmp_path / "run")
    assert "starting from" in capsys.readouterr().out
    plain = [text for text in TEXT if text.isascii()]
    np.testing.assert_allclose(
        Encoder.load(tmp_path / "run").encode(plain),
        Encoder.load(tmp_path / "small").encode(plain),
        atol=1e-6,
    )


@pytest.mark.export
@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bytes"])
def test_a_table_of_another_program_is_a_bag(kind, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    models = pytest.importorskip("sentence_transformers.models")

    made = fast(kind)
    table = np.random.default_rng(0).normal(size=(made.get_vocab_size(), 16)).astype(np.float32)
    there = library.SentenceTransformer(
        modules=[models.StaticEmbedding(made, embedding_weights=table), models.Normalize()],
        device="cpu",
    )
    there.save(str(tmp_path / "st"))
    texts = [text for text in TEXT if there.tokenize([text])["input_ids"].numel() < 512]
    np.testing.assert_allclose(
        Encoder.load(tmp_path / "st").encode(texts), there.encode(texts), atol=1e-5
    )


@pytest.mark.export
def test_a_model_of_model2vec_is_a_bag(tmp_path):
    library = pytest.importorskip("model2vec")
    made = fast("wordpiece")
    table = np.random.default_rng(0).normal(size=(made.get_vocab_size(), 16)).astype(np.float32)
    there = library.StaticModel(table, made, normalize=True)
    there.save_pretrained(tmp_path / "m2v")
    for file in (tmp_path / "m2v").glob("modules.json"):
        file.unlink()  # which makes it one of sentence-transformers
    texts = [*TEXT, "the unknownꙮ cat"]
    np.testing.assert_allclose(
        Encoder.load(tmp_path / "m2v").encode(texts), there.encode(texts), atol=1e-5
    )


def test_json_of_words_is_not_taken_for_a_tokenizer_of_another_program():
    from lightxling.corpus.foreign_pieces import dumped, is_foreign

    assert is_foreign(dumped(renumbered(WORD_PIECE, order_of(WORD_PIECE, {}))))
    assert not is_foreign(json.dumps({"format": "lightxling-words"}).encode())
