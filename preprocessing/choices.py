"""What may be chosen of preparing people: names and default numbers, apart from the steps, whose libraries take long
to load. The command line needs no more than this to list its options.
"""

# Which comes first in dates like 03/01/2006: day or month.
DATE_ORDERS = ("dmy", "mdy")
# Which visits of a person: the one that a label asks for, or all that have a T1.
VISITS = ("one", "all")
PAIR_DAYS = 90  # from a T1 to its PET, at most

HORIZON_MONTHS = 36.0  # within which a conversion counts
SCAN_MONTHS = 3.0  # from a scan to the visit whose diagnosis is the scan's
# What a milder diagnosis after a worse one does.
REVERSIONS = ("unlabeled", "ignore_single")

HEADERS = ("sform", "qform")  # the two affines of a header, the first of which counts where both are set and agree
RESOLUTIONS_MM = (2, 1)
REFERENCES = ("pons", "pons_vermis", "cerebellum")  # regions of reference of the SUVR
CORRECTIONS = ("none", "muller-gartner")  # of partial volume
PET_RESOLUTION_MM = 8.0  # FWHM to which finer PETs are smoothed: ADNI's

# Far above what a good scan needs: a minute or two, and 2 GB.
SUBJECT_MINUTES, SUBJECT_MEMORY_GIB = 120.0, 16.0
SIMULATED_RAW = 24  # simulated people who arrive as raw scans
