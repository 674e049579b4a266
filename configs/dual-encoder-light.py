"""The multi-task dual encoder's objectives on `light`: translation ranking, and up to four tasks
within languages beside it.

    lightxling train dual-encoder-light --workdir runs/dual \
        --corpus.sources "en-fr=data/*.en-fr.tsv.gz" \
        --tasks.0.sources "en=text/*.en.txt.gz" "fr=text/*.fr.txt.gz" \
        --tasks.3.sources en-en=sts/stsb.train.en-en.tsv.gz

Tasks without sources are left out; without any, this is the translation-ranking baseline.

    0 thought   quick-thought on running text, one document after a blank line
    1 nli       SNLI and MultiNLI: `en-en=tfds:snli` `en-en=tfds:multi_nli`, or TSV files
    2 response  pairs of an input and a response, `en-en=dialogue.tsv`
    3 sts       pairs with a similarity score

Departures from the paper (its settings are `dual-encoder`): the encoder and AdamW of `light`;
cosines with a scale of 20 in both directions of translation ranking, as raw products of vectors
that start near each other learn slowly; a small share for the labelled tasks.

Hard negatives come from an earlier run:
`--objectives.ranking.negatives 5 --objectives.ranking.mined-by runs/earlier`.
"""

from lightxling.config import (
    InferenceConfig,
    QuickThoughtConfig,
    RankingConfig,
    StsConfig,
    TaskConfig,
    change,
    load,
    only,
)

config = change(
    load("light"),
    objectives=only(
        ranking=RankingConfig(weight=1.0, direction="both", similarity="cosine", scale=20.0)
    ),
    train__share=4.0,
    tasks=(
        TaskConfig(
            name="thought",
            share=2.0,
            objectives=only(quick_thought=QuickThoughtConfig(weight=1.0)),
        ),
        TaskConfig(name="nli", objectives=only(inference=InferenceConfig(weight=1.0))),
        TaskConfig(
            name="response",
            objectives=only(ranking=RankingConfig(weight=1.0, direction="forward", head=320)),
        ),
        TaskConfig(name="sts", objectives=only(sts=StsConfig(weight=1.0))),
    ),
)
