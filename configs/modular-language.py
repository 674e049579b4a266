"""First stage of modular encoders: a multilingual encoder learns more of one language.

lightxling train modular-language --workdir runs/de/language --train.init-from runs/de/start \\
    --corpus.sources "de=de.txt"

Masked language modelling trains the embeddings and a LoRA adapter in every block; the rest of the
encoder is frozen. `runs/de/start` is what `lightxling specialise` makes: the multilingual encoder
with a tokenizer and embeddings of the language. `lightxling modular` runs all stages for several
languages.

The sizes are those of `light`; for another encoder, replace all of `model` but the adapters. Rank
and alpha, the projections that LoRA changes and the learning rate are not known from the paper
(arXiv 2407.14878, ACL 2025): the first three are the usual ones, the last is our choice.
"""

from lightxling.config import (
    AdapterConfig,
    Config,
    CorpusConfig,
    MlmConfig,
    OptimizerConfig,
    TrainConfig,
    change,
    load,
    only,
)

config = Config(
    corpus=CorpusConfig(dev_share=0.0),  # one language has no P@1 to measure
    model=change(load("light").model, adapters=(AdapterConfig("language", kind="lora"),)),
    objectives=only(mlm=MlmConfig(weight=1.0)),
    optimizer=OptimizerConfig(
        name="adamw",
        learning_rate=1e-4,
        l2=0.0,
        warmup_steps=100,
        schedule="linear",
        clip=1.0,
    ),
    train=TrainConfig(
        epochs=3.0,
        batch_size=128,
        trainable=("encoder.words", "encoder.adapters.language", "token_head"),
    ),
)
