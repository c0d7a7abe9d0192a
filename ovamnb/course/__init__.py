"""What the chapters ask of their readers, and what becomes of it.

syllabus.py       the chapters in order, and where each keeps its predictions and exercises
predictions.py    `ov.predict`: first the reader's guess, then the answer, then the score
exercises.py      `ov.check`: is it right, and if not, which idea is wrong?
comparing.py      when two answers are the same
progress.py       `ov.progress`: what was predicted and solved, in a small file on the reader's own computer

A module for each chapter, named as its notebook: its predictions, its exercises, its drawing.

start_here.py              00
a_diffusion_model.py       01
attention_hooking.py       02
any_word.py                03
what_belongs_together.py   04
a_better_word.py           05
images_it_did_not_make.py  06
when_is_a_number_true.py   07
labels_out_of_words.py     08
attention_as_a_cause.py    09
where_it_goes_wrong.py     10

listening.py               02: a recorder written from nothing, and what it did wrong
layer_sums.py              02: which layers' maps serve best, on scenes with exact masks
completing.py              04: maps of scenes, completed and weighed, and masks by one click
completion_figures.py      04: what they look like, and what they are worth
whole_map.py               03: exercise b, OVAM's map from end to end
reach.py                   03: how far words reach, on scenes of two objects
placed_words.py            03: how often a place names its object, as it was measured
token_lessons.py           05: annotated scenes, and how well a word or a token finds the cat in others
token_figures.py           05: how a token is learned, what it finds, what it is worth
"""
