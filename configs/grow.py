"""The encoder of `many` in two stages: first the table of pieces alone, then two layers on it.

    lightxling train grow --workdir runs/grown --corpus.sources "en-fr=data/*.en-fr.tsv.gz" ...

Almost all parameters are the table, and a bag of vectors (no layers) learns it ten times as fast as
an encoder with layers. The layers start as nothing, so that the first vectors of the second stage
are the last of the first. The first stage is `--stages.0...`, the second has the settings of any
run: `--stages.0.train.pairs 2000000 --train.pairs 200000`.
"""

from lightxling.config import StageConfig, change, load

many = load("many")
config = change(
    many,
    train__batch_size=512,
    train__epochs=1.0,
    optimizer__learning_rate=4e-4,
    optimizer__warmup_steps=50,
    stages=(
        StageConfig(
            name="table",
            layers=0,
            objectives=many.objectives,
            optimizer=change(many.optimizer, warmup_steps=100),
            train=change(many.train, batch_size=1024, epochs=3.0, dev_every=250),
        ),
    ),
)
