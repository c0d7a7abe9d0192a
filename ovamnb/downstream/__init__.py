"""What a labelled training set is worth: a small network is trained on it and tested on real pictures.

    pictures.py  pictures of any sizes as randomly varied batches of one size
    network.py   the networks, with random weights
    fit.py       the training loop that everything here uses
    learn.py     training a network, predicting with it, scoring it
    sources.py   where labelled pictures come from, with their labels matched
    study.py     many trainings, which can be killed, resumed and spread over processes
    table.py     the results, as a table and as CSV

The command is `python -m ovamnb.downstream`. Such sets are made by `python -m ovamnb.synthesize`.
"""

from .learn import predict, score, train

__all__ = ["predict", "score", "train"]
