"""First stage of modular encoders as their first released code has it: all parameters are trained.

lightxling train modular-v1-language --workdir runs/de/language --train.init-from runs/de/start \\
    --corpus.sources "de=de.txt"

As in the code (arXiv 2407.14878, version 1): all parameters, batch (128 x 2 there), AdamW with eps
1e-8 and no decay, rate 5e-5 that falls linearly to 0 without warm-up, no clipping, three epochs, at
most 256 tokens. Departure: there the text runs on and is cut into blocks of 256 tokens; here a row
is a sentence, so fewer tokens are seen in a batch and none across the end of a sentence.
"""

from lightxling.config import change, load

config = change(
    load("modular-language"),
    model__adapters=(),
    optimizer__learning_rate=5e-5,
    optimizer__warmup_steps=0,
    optimizer__clip=0.0,
    train__epochs=3.0,
    train__batch_size=256,
    train__max_length=256,
    train__trainable=(),
)
