"""Figures, one file each: plain data in, a figure out; ``BenchError`` says why there is nothing to show."""
