"""Second stage of modular encoders: sentence vectors of one language, from its paraphrases.

lightxling train modular-sentence --workdir runs/de/sentence \\
    --train.init-from runs/de/language --corpus.sources "de-de=paraphrases.de-de.tsv"

A second LoRA adapter beside that of the language is trained; a sentence finds its paraphrase among
the batch, by cosines at scale 20, in one direction. `lightxling paraphrases` makes the pairs. Sizes
as in `modular-language`; the learning rate is our choice.
"""

from lightxling.config import AdapterConfig, AlignConfig, CorpusConfig, MlmConfig, change, load

language = load("modular-language")
config = change(
    language,
    corpus=CorpusConfig(),
    model__adapters=(*language.model.adapters, AdapterConfig("sentence", kind="lora")),
    objectives__mlm=MlmConfig(),
    objectives__align=AlignConfig(
        weight=1.0, directions="forward", similarity="cosine", temperature=0.05
    ),
    optimizer__learning_rate=1e-3,
    optimizer__schedule="constant",
    train__epochs=1.0,
    train__trainable=("encoder.adapters.sentence",),
)
