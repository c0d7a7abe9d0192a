"""Numbers that a reviewer would trust: methods side by side on data with a truth, and how they are reported.

    methods.py    the methods, a line for each
    metrics.py    who was taken for whom: counts of pixels, and the scores that follow from them
    run.py        an evaluation that can be interrupted, resumed and spread over processes
    store.py      what it leaves on disk
    split.py      that, read back and added up
    report.py     what was counted, as a table and as CSV
    ablate.py     what each choice is worth: maps in parts
    arguments.py  what both commands are told

The commands are `python -m ovamnb.evaluation` and `python -m ovamnb.evaluation.ablate`; the data sets are in
`ovamnb/data/`.
"""
