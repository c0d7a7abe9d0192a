"""A labelled training set out of words: pictures drawn by the model, masks from what it attended to.

    prompts.py    what is drawn: templates, captions or a file → prompt, seed and classes of each picture
    label_maps.py scores → a label map, with what is uncertain left out
    scores.py     how well picture and text agree
    folder.py     the folder: Pascal VOC's, beside it a line of metadata for each picture
    guards.py     what can go wrong with folder, disk and memory, found early or explained
    synthesis.py  drawing, labelling and writing, which can be killed, resumed and spread over processes
    filters.py    what is thrown out, and why
    lists.py      what was kept and what was thrown out, written down
    tune.py       between which two thresholds a label is uncertain, chosen on annotated pictures

The command is `python -m ovamnb.synthesize`. What such a set is worth: `python -m ovamnb.downstream`.
"""
