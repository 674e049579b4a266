"""Second stage of modular encoders as their first released code has it: all parameters are trained.

lightxling train modular-v1-sentence --workdir runs/de/sentence \\
    --train.init-from runs/de/language --corpus.sources "de-de=paraphrases.de-de.tsv"

Batch, rate and epochs are those of the code (arXiv 2407.14878, version 1).
"""

from lightxling.config import change, load

config = change(
    load("modular-sentence"),
    model__adapters=(),
    optimizer__learning_rate=2e-5,
    optimizer__warmup_steps=0,
    train__epochs=1.0,
    train__batch_size=32,
    train__trainable=(),
)
