"""What `lightxling quickstart` trains: five languages, a million parameters, minutes on a laptop.

lightxling quickstart
"""

from lightxling.config import (
    AlignConfig,
    Config,
    CorpusConfig,
    ModelConfig,
    ObjectivesConfig,
    OptimizerConfig,
    SimilarityConfig,
    TokenizerConfig,
    TokensConfig,
    TrainConfig,
)

config = Config(
    corpus=CorpusConfig(dev_limit=300),
    tokenizer=TokenizerConfig(model="unigram", vocab_size=6000, character_coverage=1.0),
    model=ModelConfig(
        layers=2,
        width=128,
        heads=4,
        feedforward=256,
        max_length=48,
        init="scaled",
        identical_layers=False,
    ),
    objectives=ObjectivesConfig(
        tokens=TokensConfig(duplicates="count", mlm_overwrite=False, xtr_from="original"),
        align=AlignConfig(weight=4.0, similarity="cosine", temperature=0.1),
        similarity=SimilarityConfig(weight=0.0),
    ),
    optimizer=OptimizerConfig(
        name="adamw",
        learning_rate=3e-3,
        l2=0.0,
        weight_decay=0.01,
        warmup_steps=50,
        schedule="cosine",
        clip=1.0,
    ),
    train=TrainConfig(
        pairs=140_800,
        batch_size=128,
        buckets=(12, 16),
        dev_every=220,
        checkpoint_every=400,
    ),
)
