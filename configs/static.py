"""A weighted bag of pieces for many languages: nothing but a table, 7.8 M parameters.

    lightxling train static --workdir runs/static --corpus.sources "en-fr=data/*.en-fr.tsv.gz" ...

No layers and no positions: a vector and a weight for every piece, both learnt, and a sentence is
the weighted mean. It encodes some ten times as fast as two layers, learns ten times as many pairs a
minute, and every program that reads a table of vectors can open its export (StaticEmbedding of
sentence-transformers). Word order is lost on it: "the dog bites the man" is its reverse.

The rate was chosen by the mean dev P@1 of 66 languages with English, at most 300 candidates each,
after 204,800 of 2,955,871 training pairs (`--train.pairs 204800`, seed 0, with positions):

    --optimizer.learning-rate 1e-3     52.4
    --optimizer.learning-rate 4e-3     64.8
    --optimizer.learning-rate 1.2e-2   64.3
"""

from lightxling.config import change, load

config = change(
    load("many"),
    model__layers=0,
    model__pooling="weighted",
    model__positions=False,
    model__embedding_width=160,
    tokenizer__vocab_size=48_000,
    tokenizer__sample=500_000,
    optimizer__learning_rate=4e-3,
    optimizer__warmup_steps=200,
    train__batch_size=1024,
)
