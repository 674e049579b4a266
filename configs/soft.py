"""Soft labels alone (IMASCL): what an English teacher finds alike should be alike across languages.

    lightxling train soft --workdir runs/soft --corpus.sources "en-fr=data/*.en-fr.tsv.gz" \
        --teacher.source teachers/all-MiniLM-L6-v2

The teacher is any folder of sentence-transformers, a run or export of lightxling, or a matrix of
vectors; it reads the English side once, and the vectors are kept beside the token store. Prefixes
are not guessed: teachers called e5 want `--teacher.prefix "query: "`.

The paper trains a pretrained multilingual encoder. Here the student starts from nothing, with the
size and the optimizer of `light`. The paper's own optimizer settings are

    --optimizer.learning-rate 3e-5 --optimizer.weight-decay 0 --optimizer.schedule linear
    --optimizer.warmup-steps 0 --optimizer.clip 1 --train.batch-size 28 --train.epochs 30

Its released code gathers vectors over devices with gradients of the local rows only, which divides
the gradient by the number of devices; the loss here is that of the global batch on any number.

The teacher's temperature should fit the spread of its cosines. At the published 0.1 the labels of
all-MiniLM-L6-v2, whose random pairs have cosines near 0, are all but hard. Mean dev P@1 of English
with four languages (2,000 candidates) and STS-B dev Spearman after 38,400 pairs, seeds 0 and 1
(docs/results.md has all variants):

    --objectives.soft.labels hard                    65.8, 65.9   38.4, 40.5
    this recipe                                      66.4, 66.5   38.9, 40.8
    --objectives.soft.teacher-temperature 0.3        74.6, 75.5   48.8, 50.3
    ... and --objectives.soft.tcm True               68.7, 68.9   50.9, 52.8

Variants: `--objectives.soft.labels` priority, average, left, right or hard (no teacher);
`--objectives.soft.targets raw`; `--objectives.soft.tcm True` adds similarities within a language;
`--objectives.soft.loss mse` and `--objectives.regression.weight 1 --objectives.soft.weight 0` are
the two baselines of squared errors. The released code's own form of the former, the sum of both
directions, and its other combinations (softmax or raw targets for it and for hard labels, TCM with
it) come with `--objectives.soft.released True`. Its training script takes raw targets unless it is
told `Softmax`, as the command of its readme does.
"""

from lightxling.config import SoftConfig, change, load, only

config = change(load("light"), objectives=only(soft=SoftConfig(weight=1.0)))
