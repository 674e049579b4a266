"""The objectives of `ems` in two layers of width 256, for many languages on a small machine.

lightxling train ems-small --workdir runs/ems-small --corpus.sources "en-fr=data/*.en-fr.tsv.gz" ...

The body and the optimizer are those of `light`. The vocabulary table is factorised (60,000 x 128)
and serves the token head too: a table of the head's own would be 60,000 x 320, of 19 M parameters,
and its logits two and a half times the work. The encoder has 8.8 M parameters. Characters that are
too rare for a piece are spelt in bytes, and small languages are drawn more often than they occur,
for the tokenizer and in training.

To train an encoder rather than to compare objectives, take `many`, which leaves XTR and the
projection out and is better after the same minutes.
"""

from lightxling.config import TokenizerConfig, change, load

light = load("light")
config = change(
    load("ems"),
    corpus__dev_limit=300,  # per language pair
    tokenizer=TokenizerConfig(model="unigram", vocab_size=60_000, byte_fallback=True, sampling=0.5),
    model=change(light.model, embedding_width=128, max_length=120),
    objectives__tokens__language_width=64,
    objectives__tokens__decoder="tied",
    objectives__tokens__decoder_bias=True,
    optimizer=change(light.optimizer, warmup_steps=500),
    train=change(light.train, epochs=3.0, batch_size=128, sampling_temperature=2.0, dev_every=1000),
)
