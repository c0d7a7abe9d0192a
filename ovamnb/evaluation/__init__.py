"""Numbers that a reviewer would trust: data sets, metrics, methods side by side, and how they are reported.

    data.py      what a data set is: examples with a truth, in fixed splits; which ones there are
    pascal.py    Pascal VOC 2012 and Pascal Context, as they are downloaded
    coco.py      COCO-Object, from COCO's own annotation files
    folders.py   a folder of images and label maps; the layout of the OVAM authors' sets
    command.py   what both commands have in common
    counts.py    who was taken for whom: counts of pixels, and the scores that follow from them
    rows.py      the methods, a line for each
    run.py       an evaluation that can be interrupted, resumed and spread over processes
    store.py     what it leaves on disk
    split.py     that, read back and added up
    report.py    what was counted, as a table and as CSV
    ablations.py what each choice is worth: maps in parts

The commands are `python -m ovamnb.evaluate` and `python -m ovamnb.ablate`. The little world's own data sets
are in `ovamnb/emoji/sets.py`.
"""
