"""The embedded cohort: people whose truth is known, written as an ADNI download and as prepared volumes."""
