"""What a labelled training set is worth: a small network learns from it and is tested on real pictures.

    pictures.py  pictures of any sizes as batches of one size, a little different every time
    network.py   the networks, from random weights
    fit.py       the training loop that everything here is trained by
    learn.py     training one, asking it, counting its mistakes
    sources.py   where labelled pictures come from, with labels that mean the same
    study.py     many trainings, which can be killed, resumed and spread over processes
    table.py     what came out, as a table and as CSV

The command is `python -m ovamnb.downstream`. Such sets are made by `python -m ovamnb.synthesize`.
"""

from .learn import predict, score, train

__all__ = ["predict", "score", "train"]
