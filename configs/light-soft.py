"""`light` with a teacher: cosines across languages should also be those that it sees in English.

    lightxling train light-soft --workdir runs/light-soft \
        --corpus.sources "en-fr=data/*.en-fr.tsv.gz" --teacher.source teachers/all-MiniLM-L6-v2

The squared difference of the two similarity matrices is, of the mixtures tried, the one that gains
in both: English with German, French, Spanish and Italian, 38,400 pairs seen, mean dev P@1 among
2,000 candidates and mean Spearman of nine STS-B dev sets, all-MiniLM-L6-v2, seeds 0 and 1:

                                                                      P@1         STS
    light                                                             69.2, 70.7  46.0, 47.4
    this recipe                                                       73.0, 73.2  51.0, 52.0
    --objectives.soft.weight 3                                        72.1        51.7
    --objectives.soft.loss cross-entropy                              67.8, 69.0  43.1, 44.6
    ... --objectives.soft.tcm True                                    69.3, 70.9  44.4, 46.5
    ... and --objectives.soft.teacher-temperature 0.3                 74.6, 75.6  43.7, 44.7
"""

from lightxling.config import SoftConfig, change, load

config = change(load("light"), objectives__soft=SoftConfig(weight=1.0, loss="mse"))
