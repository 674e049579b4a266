"""acl2021 with proper target distributions and the faults of the reference repaired.

lightxling train clean --workdir runs/clean --corpus.sources "en-fr=data/*.en-fr.tsv.gz"
"""

from lightxling.config import Config, ModelConfig, ObjectivesConfig, TokensConfig

config = Config(
    model=ModelConfig(identical_layers=False),
    objectives=ObjectivesConfig(
        tokens=TokensConfig(duplicates="count", mlm_overwrite=False, xtr_from="original")
    ),
)
