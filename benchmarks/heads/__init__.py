"""Measurements of the brain against truth that this project did not make: labels of real heads, drawn parameters, and
other tools' scans. `python -m benchmarks.heads OUT` writes and prints the table."""
