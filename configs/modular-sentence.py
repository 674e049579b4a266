"""Second stage of modular encoders: sentence vectors of one language, from its paraphrases.

lightxling train modular-sentence --workdir runs/de/sentence \\
    --train.init-from runs/de/language --corpus.sources "de-de=paraphrases.de-de.tsv"

A second LoRA adapter beside that of the language is trained; a sentence finds its paraphrase among
the batch, by cosines at scale 20, in one direction. `lightxling paraphrases` makes the pairs. Sizes
as in `modular-language`; the learning rate is our choice.
"""

from dataclasses import replace

from lightxling.config import AdapterConfig, AlignConfig, CorpusConfig, MlmConfig, load

language = load("modular-language")
config = replace(
    language,
    corpus=CorpusConfig(),
    model=replace(
        language.model,
        adapters=(*language.model.adapters, AdapterConfig("sentence", kind="lora")),
    ),
    objectives=replace(
        language.objectives,
        mlm=MlmConfig(),
        align=AlignConfig(weight=1.0, directions="forward", similarity="cosine", temperature=0.05),
    ),
    optimizer=replace(language.optimizer, learning_rate=1e-3, schedule="constant"),
    train=replace(language.train, epochs=1.0, trainable=("encoder.adapters.sentence",)),
)
