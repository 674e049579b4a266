"""First stage of modular encoders as their first released code has it: all parameters are trained.

lightxling train modular-v1-language --workdir runs/de/language --train.init-from runs/de/start \\
    --corpus.sources "de=de.txt"

Batch (128 x 2 there), rate and epochs are those of the code (arXiv 2407.14878, version 1).
"""

from dataclasses import replace

from lightxling.config import load

modular = load("modular-language")
config = replace(
    modular,
    model=replace(modular.model, adapters=()),
    optimizer=replace(modular.optimizer, learning_rate=5e-5, warmup_steps=0),
    train=replace(modular.train, epochs=3.0, batch_size=256, trainable=()),
)
