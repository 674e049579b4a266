"""Many languages in two layers of width 256 that learn from translations alone.

lightxling train many --workdir runs/many --corpus.sources "en-fr=data/*.en-fr.tsv.gz" ...

The tokenizer, body, optimizer and sampling of `ems-small`: 60,000 pieces in a factorised table,
characters that are too rare for a piece spelt in bytes, small languages drawn more often than they
occur. Of the objectives there is one, the contrastive one of `light`, without masks.
"""

from dataclasses import replace

from lightxling.config import load, only

small, light = load("ems-small"), load("light")
config = replace(
    small,
    objectives=only(align=light.objectives.align),
    train=replace(
        small.train, buckets=(8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 96, 120)
    ),
)
