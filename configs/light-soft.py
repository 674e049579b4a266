"""`light` with soft labels from an English teacher beside its own objectives.

    lightxling train light-soft --workdir runs/light-soft \
        --corpus.sources "en-fr=data/*.en-fr.tsv.gz" --teacher.source teachers/all-MiniLM-L6-v2
"""

from dataclasses import replace

from lightxling.config import SoftConfig, load

light = load("light")
config = replace(light, objectives=replace(light.objectives, soft=SoftConfig(weight=1.0)))
