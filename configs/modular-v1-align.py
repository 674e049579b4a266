"""Third stage of modular encoders as their first released code has it: paraphrases only.

lightxling train modular-v1-align --workdir runs/de/align --train.init-from runs/de/sentence \\
    --teacher.source runs/en/sentence --corpus.sources "en-de=paraphrases.en-de.tsv"

As in the code (arXiv 2407.14878, version 1): batch 128, AdamW with eps 1e-6 and decay 0.01
(matrices only), a constant rate of 1e-4, gradients clipped to 1, one epoch, at most 128 tokens.

One adapter beside an encoder of which the earlier stages trained everything. Unlike in that code,
the English encoder does not drop out while it is the target.
"""

from lightxling.config import PivotConfig, change, load

modular = load("modular-align")
config = change(
    modular,
    model__adapters=modular.model.adapters[-1:],
    objectives__pivot=PivotConfig(weight=1.0),
    optimizer__learning_rate=1e-4,
    optimizer__warmup_steps=0,
    train__max_length=128,
    tasks=(),
)
