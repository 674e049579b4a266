"""Third stage of modular encoders: a language comes to English, which stays where it is.

lightxling train modular-align --workdir runs/de/align --train.init-from runs/de/sentence \\
    --teacher.source runs/en/sentence --corpus.sources "en-de=parallel.en-de.tsv.gz" \\
    --tasks.0.sources "en-de=paraphrases.en-de.tsv"

A bottleneck adapter parallel to the feed-forward layers is trained, nothing else. The English
encoder (stages one and two for English) is the teacher: its vectors are computed once, in
evaluation mode. Batches take turns, as in the paper: of parallel sentences the cosine alone counts,
paraphrases across languages are contrasted with the batch; without the latter that task is left
out. An epoch is one of the parallel text, of which there is more (in the paper there is as much of
both). The adapter is for comparing languages; within one it is left out:
`Encoder.load("runs/de/align").using("language", "sentence")`.

Optimizer and batch as in the released code of arXiv 2407.14878, but for the learning rate (1e-4
there, for an encoder of 768 dimensions).
"""

from lightxling.config import (
    AdapterConfig,
    AlignConfig,
    PivotConfig,
    TaskConfig,
    change,
    load,
    only,
)

sentence = load("modular-sentence")
config = change(
    sentence,
    model__adapters=(*sentence.model.adapters, AdapterConfig("align", "parallel")),
    objectives__align=AlignConfig(weight=0.0),
    objectives__pivot=PivotConfig(weight=1.0, loss="cosine"),
    optimizer__learning_rate=3e-4,
    optimizer__eps=1e-6,
    optimizer__weight_decay=0.01,
    train__batch_size=128,
    train__trainable=("encoder.adapters.align",),
    tasks=(TaskConfig("paraphrases", objectives=only(pivot=PivotConfig(weight=1.0))),),
)
