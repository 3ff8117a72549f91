"""What keeps people unknown: pseudonyms, an age above which nobody is told apart, and paths without days."""

from __future__ import annotations

import glob
import hashlib
import hmac
import re
from pathlib import Path

AGE_CAP = 90.0  # years; above it few enough are left to be recognized (HIPAA, 45 CFR 164.514)
# A day, and the time that ADNI's folders and files put behind it.
DAY = re.compile(
    r"(?<![0-9A-Za-z])(?:19|20)\d\d(?P<gap>[-_]?)(?:0[1-9]|1[0-2])(?P=gap)(?:0[1-9]|[12]\d|3[01])"
    r"(?:_\d\d_\d\d_\d\d(?:\.\d+)?|\d{4,9})?(?![0-9A-Za-z])"
)


def pseudonym(participant_id: str, key: bytes) -> str:
    """sub-P and 8 hex digits, the same for a person under the same key; without the key there is no way back.

    HMAC-SHA-256 (RFC 2104): ids are few enough to try them all against a plain hash.

    >>> pseudonym("sub-ADNI011S4105", b"key") == pseudonym("sub-ADNI011S4105", b"key")
    True
    >>> len(pseudonym("sub-ADNI011S4105", b"key"))
    13
    """
    return f"sub-P{hmac.new(key, participant_id.encode(), hashlib.sha256).hexdigest()[:8]}"


def pseudonym_key(run_dir: Path) -> bytes:
    """The key of the pseudonyms in the reports of a run: a hash of its splits, which stay with the data.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as run:
    ...     _ = (Path(run) / "splits.tsv").write_text("sample_id")
    ...     len(pseudonym_key(Path(run)))
    32
    """
    return hashlib.sha256((run_dir / "splits.tsv").read_bytes()).digest()


def cap_age(age: float) -> float:
    """Years, at most `AGE_CAP`; NaN stays.

    >>> cap_age(93.4), cap_age(71.5)
    (90.0, 71.5)
    """
    return min(age, AGE_CAP) if age == age else age


def without_days(path: str) -> str:
    """A path whose folders and files tell no day: 2006-01-12_10_22_33.0 and 20060112102233123 become DATE.

    >>> without_days("MPRAGE/2006-01-12_10_22_33.0/I1234")
    'MPRAGE/DATE/I1234'
    """
    return DAY.sub("DATE", path)


def find_without_days(path: str, folder: Path) -> Path | None:
    """The file of `without_days(path)`, relative to a folder; None where there is none.

    >>> find_without_days("DATE/nothing.nii", Path("nowhere")) is None
    True
    """
    found = sorted(glob.glob(glob.escape(path).replace("DATE", "*"), root_dir=folder))
    return folder / found[0] if found else None
