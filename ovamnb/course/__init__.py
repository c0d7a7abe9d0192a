"""What the chapters ask of their readers, and what becomes of it.

syllabus.py       the chapters in order, and where each keeps its predictions and exercises
predictions.py    `ov.predict`: first the reader's guess, then the answer, then the score
exercises.py      `ov.check`: is it right, and if not, which idea is wrong?
comparing.py      when two answers are the same
progress.py       `ov.progress`: what was predicted and solved, in a small file on the reader's own computer

A module for each chapter, named as its notebook, holds its predictions, its exercises and its drawing; those
below it hold what would be too long for a cell.

start_here.py              00
first_pictures.py          its pictures with their true masks, and maps beside them
course_map.py              the course on one page, drawn
a_diffusion_model.py       01
denoising_films.py         latents, films of noising and denoising, small masks
attention_hooking.py       02
listening.py               exercise b, a recorder from nothing
layer_sums.py              which layers' maps serve best
any_word.py                03
whole_map.py               exercise b, OVAM's map end to end
reach.py                   how far words reach, on scenes of two objects
placed_words.py            how often a place names its object
what_belongs_together.py   04
completing.py              maps completed and weighed, and masks by one click
completion_figures.py      how that looks, and what it is worth
a_better_word.py           05
token_lessons.py           annotated scenes, and how well a word or a token finds the cat in others
token_figures.py           how a token is learned, what it finds, what it is worth
images_it_did_not_make.py  06
cut_scenes.py              scenes cut into classes: how well it fits, how it looks
when_is_a_number_true.py   07
score_tables.py            the stored results as arrays
score_figures.py           the stored results as figures
labels_out_of_words.py     08
synthetic_tables.py        what is stored of the synthetic sets
synthetic_pictures.py      drawn pictures with labels: made, shown, learned from
attention_as_a_cause.py    09
silent_head.py             one head silenced from nothing, and what a run of it shows
silencing_ideas.py         exercise b: the wrong ways, and the check that knows them
changed_pictures.py        pictures beside what became of them, and what was measured
where_it_goes_wrong.py     10
absent_words.py            what words answer for pictures that do not show them
mixed_up.py                which object a word lies on, and two of a kind
failure_figures.py         what each failure looks like
"""
