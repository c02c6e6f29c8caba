"""One writer a format: `write_<format>(table)` of a Table, and `write_csv` of a frame.

Each writer escapes what its format could take for markup, in one function of its own. Control
characters were made visible before, when the table was made.
"""
