"""What only the makers of the course run: nothing here is in the wheel, and no notebook imports it.

train/      the bundled model from nothing, its CLIP, and an oracle that says which pixel shows what
make/       what is made with them: the recipe of `ov.segment`, tokens, label sets, model card, README's parts
measure/    how well the model draws, how well its words find, how far the notebooks' claims are from failing
bench/      what recording, asking and learning a token cost, beside the official code
tour.py     the course, run
pages.py    what stands on a notebook's page
book.py     and the book that the pages make: index, search, the way to the next
ask/        a page that asks a saved trace in the browser
"""
