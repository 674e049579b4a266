"""The multi-task dual encoder as published (arXiv 1810.12836): 144 M parameters, words and their
letters, SGD.

    lightxling train dual-encoder --workdir runs/dual --corpus.sources "en-fr=data/*.en-fr.tsv.gz" \
        --tasks.0.sources en-en=dialogue.en.tsv --tasks.1.sources fr-fr=dialogue.fr.tsv \
        --tasks.2.sources "en=wikipedia/*.en.txt.gz" --tasks.3.sources "fr=wikipedia/*.fr.txt.gz" \
        --tasks.4.sources en-en=tfds:snli

One model for each language pair. Tasks take turns, a step each; those without sources are left out.
For anything that is to be measured on a small machine: `dual-encoder-light`.

What the paper does not say and is chosen here: the width of the transformer, its heads and its
feed-forward layers, no dropout, the linear map from 320 to 512, how text is cut into words, the
activation of the inference head (tanh). Our LayerNorm on the input stays. The paper trains for 30 M
steps; hard negatives (5 a sentence) need an earlier run:
`--objectives.ranking.negatives 5 --objectives.ranking.mined-by runs/earlier`.
"""

from lightxling.config import (
    Config,
    InferenceConfig,
    ModelConfig,
    OptimizerConfig,
    QuickThoughtConfig,
    RankingConfig,
    TaskConfig,
    TokenizerConfig,
    TrainConfig,
    only,
)

response = only(ranking=RankingConfig(weight=1.0, direction="forward", head=320))
quick_thought = only(quick_thought=QuickThoughtConfig(weight=1.0, hidden=320))

config = Config(
    tokenizer=TokenizerConfig(model="words", vocab_size=200_000, hash_buckets=10_000),
    model=ModelConfig(
        layers=3,
        width=512,
        heads=8,
        feedforward=2048,
        embedding_width=320,
        ngrams=200_000,
        max_length=64,
        activation="relu",
        sinusoidal=True,
        dropout=0.0,
        init="scaled",
        identical_layers=False,
    ),
    objectives=only(ranking=RankingConfig(weight=1.0)),
    optimizer=OptimizerConfig(
        name="sgd",
        learning_rate=0.008,
        beta1=0.0,
        l2=0.0,
        embedding_gradient=100.0,
        warmup_steps=0,
        schedule="constant",
    ),
    train=TrainConfig(batch_size=100, pairs=500_000_000),
    tasks=(
        TaskConfig(name="response-source", objectives=response),
        TaskConfig(name="response-target", objectives=response),
        TaskConfig(name="thought-source", objectives=quick_thought),
        TaskConfig(name="thought-target", objectives=quick_thought),
        TaskConfig(name="nli", objectives=only(inference=InferenceConfig(weight=1.0, hidden=512))),
    ),
)
