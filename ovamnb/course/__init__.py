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
"""
