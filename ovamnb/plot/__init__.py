"""Figures and widgets.

figures.py     pictures, maps and masks, side by side and over each other
anatomy.py     the UNet, block by block
diagrams.py    boxes, arrows and cells, for what is explained rather than measured
widgets.py     sliders and boxes for notebooks
ask_places.py  places and their words: a sheet, and a picture to click on
annotate.py    a brush, for a mask of one's own
"""
