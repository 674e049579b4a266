"""UGT + alignment + similarity as in the paper's code (ACL 2021), 30.2 M parameters.

    lightxling train acl2021 --workdir runs/acl2021 \
        --corpus.sources "en-fr=data/*.en-fr.tsv.gz"

Departures from the released code: its data bug (the last word of every target sentence is lost),
its restart of the warm-up on resuming, and batches from length buckets instead of plain shuffling
(`--train.buckets 200` gives that).
"""

from lightxling.config import Config

config = Config()  # the defaults are this paper's
