"""Figures, each by one command or function.

bundled.py        the bundled model's, for its card
generation.py     does it draw what the prompt says?
recognise.py      is that sprite there? A template match that colour cannot fool
word_maps.py      do words find their objects?
sharpening.py     what completion and a CRF add
places.py         do places know their words?
best_blocks.py    which grids serve best
token_worth.py    what tokens are worth
filter_worth.py   what the filters of a synthetic set are worth
cause.py          what attention causes: heads, words and layouts changed
vocabulary.py     what hundreds of classes cost
arithmetic.py     the same command with another CPU's arithmetic
margins.py        how far the notebooks' assertions are from failing
chapters.py       a notebook's cells, run without Jupyter
"""
