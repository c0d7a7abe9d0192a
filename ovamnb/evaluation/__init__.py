"""Methods compared on labelled data, reported with numbers that a reviewer would trust.

    look.py       what a method is given of a picture, and the maps it can be asked for
    methods.py    the methods: sharpened, scaled and cut; the papers' and ours
    metrics.py    confusion matrices of pixels, and the scores that follow from them
    redraw.py     a picture and its recording: drawn again, or shown to the model
    run.py        an evaluation that can be interrupted, resumed and spread over processes
    store.py      what it leaves on disk
    split.py      the counts of one split, read back and added up
    report.py     the scores, as a table and as CSV
    choose.py     the same chance for every method: decisions on validation pictures
    quoted.py     the papers' figures, to be printed beside ours
    reproduce.py  the OVAM paper's protocol: every picture, its thresholds, its figures beside ours
    ablate.py     ablations: what each choice is worth
    pseudo_masks.py  label maps for pictures of which only the classes are known
    background.py    the background score that they need: swept, chosen, scored
    arguments.py  the arguments that the commands share

The commands are `python -m ovamnb.evaluation`, and `.choose`, `.ablate` and `.pseudo_masks` behind it; the
data sets are in `ovamnb/data/`.
"""
