"""Our best small encoder.

lightxling train light --workdir runs/light --corpus.sources "en-fr=data/*.en-fr.tsv.gz"
"""

from lightxling.config import (
    AlignConfig,
    Config,
    ModelConfig,
    ObjectivesConfig,
    OptimizerConfig,
    SimilarityConfig,
    TokenizerConfig,
    TokensConfig,
    TrainConfig,
)

config = Config(
    tokenizer=TokenizerConfig(model="unigram", vocab_size=16_000),
    model=ModelConfig(
        width=256, heads=4, feedforward=512, init="scaled", identical_layers=False, dropout=0.0
    ),
    objectives=ObjectivesConfig(
        tokens=TokensConfig(duplicates="count", mlm_overwrite=False, xtr_from="original"),
        align=AlignConfig(weight=1.0, similarity="cosine", temperature=0.05),
        similarity=SimilarityConfig(weight=0.0),
    ),
    optimizer=OptimizerConfig(
        name="adamw",
        learning_rate=1e-3,
        l2=0.0,
        weight_decay=0.01,
        warmup_steps=100,
        schedule="cosine",
        clip=1.0,
    ),
    train=TrainConfig(batch_size=128),
)
