"""From records to answers: cells and their runs, differences, layer scores. Imports no torch."""
