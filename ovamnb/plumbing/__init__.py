"""What has nothing to do with attention.

checks.py    what public functions require of their arguments, and the errors where it is missing
files.py     files that are written whole or not at all
command.py   how a command ends: in a table, or in one line that says what to do
english.py   class names in sentences; what is punctuation
asked.py     places and words that are asked about; words in order, which are the answer
lexicon.py   a dictionary read by a text encoder, once: each word in a short text of its own
rgb.py       pictures of any origin as RGB
moved.py     where the commands of the first edition went
"""
