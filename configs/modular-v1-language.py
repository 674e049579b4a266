"""First stage of modular encoders as their first released code has it: all parameters are trained.

lightxling train modular-v1-language --workdir runs/de/language --train.init-from runs/de/start \\
    --corpus.sources "de=de.txt"

Batch (128 x 2 there), rate and epochs are those of the code (arXiv 2407.14878, version 1).
"""

from lightxling.config import change, load

config = change(
    load("modular-language"),
    model__adapters=(),
    optimizer__learning_rate=5e-5,
    optimizer__warmup_steps=0,
    train__epochs=3.0,
    train__batch_size=256,
    train__trainable=(),
)
