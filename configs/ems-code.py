"""`ems` as its released code trains it: one piece of every pair is masked, punctuation included.

lightxling train ems-code --workdir runs/ems-code --corpus.sources "en-fr=data/*.en-fr.tsv.gz" ...

The code's data loader still masks for a task that is switched off: the encoder reads one `<MASK>`
per pair, and the other side is asked to predict it. The test that should keep punctuation from
being masked has no effect there.
"""

from lightxling.config import change, load

config = change(
    load("ems"), objectives__tokens__mask_inputs=True, objectives__tokens__maskable="all"
)
