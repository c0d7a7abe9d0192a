"""A page that asks a saved trace in the browser: one safetensors file, one picture, no Python behind them.

write.py          records a trace, and writes the page: alone, or for the book
ask.html          what is on the page; standalone.html is the frame of the page alone
ask.css           how it looks
trace_reader.js   the file of a trace, and the mathematics of `ovamnb.maps`, once more
ask_page.js       what is typed, drawn and clicked
"""
