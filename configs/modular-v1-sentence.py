"""Second stage of modular encoders as their first released code has it: all parameters are trained.

lightxling train modular-v1-sentence --workdir runs/de/sentence \\
    --train.init-from runs/de/language --corpus.sources "de-de=paraphrases.de-de.tsv"

Batch, rate and epochs are those of the code (arXiv 2407.14878, version 1).
"""

from dataclasses import replace

from lightxling.config import load

modular = load("modular-sentence")
config = replace(
    modular,
    model=replace(modular.model, adapters=()),
    optimizer=replace(modular.optimizer, learning_rate=2e-5, warmup_steps=0),
    train=replace(modular.train, epochs=1.0, batch_size=32, trainable=()),
)
