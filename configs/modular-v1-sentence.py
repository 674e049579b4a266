"""Second stage of modular encoders as their first released code has it: all parameters are trained.

lightxling train modular-v1-sentence --workdir runs/de/sentence \\
    --train.init-from runs/de/language --corpus.sources "de-de=paraphrases.de-de.tsv"

As in the code (arXiv 2407.14878, version 1): all parameters, batch 32, AdamW with eps 1e-6 and
decay 0.01 (matrices only), a constant rate of 2e-5, gradients clipped to 1, one epoch, at most 64
tokens.
"""

from lightxling.config import change, load

config = change(
    load("modular-sentence"),
    model__adapters=(),
    optimizer__learning_rate=2e-5,
    optimizer__warmup_steps=0,
    optimizer__eps=1e-6,
    optimizer__weight_decay=0.01,
    train__epochs=1.0,
    train__batch_size=32,
    train__max_length=64,
    train__trainable=(),
)
