"""What is made with a trained model, and what stands in the repository because a command wrote it.

segment_recipe.py  the settings of `ov.segment` for a model
token_bank.py      a token for each class
label_sets.py      pictures that the model draws, labelled by the oracle
sprite_sheet.py    the emoji, out of the packages that hold them
card.py            the model card
hero.py            README's picture
first_masks.py     the true masks of chapter 00's first picture
readme_tables.py   README's tables
address.py         the notebooks' first cell and badges
lengths.py         how long a chapter takes, in its head and in README
lock.py            requirements.lock
"""
