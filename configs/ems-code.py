"""`ems` as its released code trains it: one piece of every pair is masked, punctuation included.

lightxling train ems-code --workdir runs/ems-code --corpus.sources "en-fr=data/*.en-fr.tsv.gz" ...

The code's data loader still masks for a task that is switched off: the encoder reads one `<MASK>`
per pair, and the other side is asked to predict it. The test that should keep punctuation from
being masked has no effect there.
"""

from dataclasses import replace

from lightxling.config import load

ems = load("ems")
tokens = replace(ems.objectives.tokens, mask_inputs=True, maskable="all")
config = replace(ems, objectives=replace(ems.objectives, tokens=tokens))
