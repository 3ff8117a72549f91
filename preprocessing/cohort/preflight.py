"""Will it fit? Disk and memory against what a subject was measured to need, before hours are spent."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

# Disk: simulated people with T1 and PET at the default recipe left 20 MB each; the T1's coarse brain adds one at most.
DISK_MB = 21.0
# Memory: the template as a 2 mm scan with PET peaked at 1.43 GB; the rest is a guess at what a 1 mm scan adds.
MEMORY_GB = 2.0
# Tables, scratch and the unexpected.
RESERVE_MB = 500.0


@dataclass(frozen=True)
class Preflight:
    """What a run needs and what there is, in MB and GB. `memory_gb` is None where the system does not say."""

    people: int
    jobs: int
    disk_mb: float
    free_mb: float
    memory_gb: float | None
    cores: int

    @property
    def needed_mb(self) -> float:
        return self.people * self.disk_mb + RESERVE_MB if self.people else 0.0

    @property
    def needed_gb(self) -> float:
        return min(self.jobs, self.people) * MEMORY_GB

    def __str__(self) -> str:
        disk = f"disk      {self.needed_mb / 1000:.1f} GB for {self.people} people, {self.free_mb / 1000:.1f} GB free"
        there = "unknown" if self.memory_gb is None else f"{self.memory_gb:.1f} GB available"
        processes = f"{max(1, min(self.jobs, self.people))} processes of one thread on {self.cores} cores"
        return "\n".join([disk, f"memory    {self.needed_gb:.1f} GB for {processes}, {there}", *self.warnings()])

    def warnings(self) -> list[str]:
        """What may go wrong, but need not; nothing is lowered for it."""
        found = []
        if self.memory_gb is not None and self.needed_gb > self.memory_gb:
            fitting = max(1, int(self.memory_gb / MEMORY_GB))
            found.append(f"warning   memory may run out with --jobs {self.jobs}; --jobs {fitting} would fit")
        if min(self.jobs, self.people) > self.cores:
            found.append(f"warning   --jobs {self.jobs} on {self.cores} cores: more processes than cores are no faster")
        return found

    def require(self, folder: Path) -> None:
        """Raises ValueError where the disk is short."""
        if self.needed_mb > self.free_mb:
            raise ValueError(
                f"{folder}: {self.people} people need about {self.needed_mb / 1000:.1f} GB of disk, and "
                f"{self.free_mb / 1000:.1f} GB are free; make room or choose another folder"
            )


def check_room(folder: Path, people: int, jobs: int) -> Preflight:
    """Needs of `people` who are still to be prepared, and what the disk of `folder` and this machine have."""
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    free_mb = shutil.disk_usage(existing).free / 1e6
    return Preflight(people, max(1, jobs), DISK_MB, free_mb, available_memory_gb(), usable_cores())


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine's under SLURM or in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory_gb(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    """Memory that new processes could have, as Linux estimates it; None on other systems."""
    try:
        lines = meminfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kilobytes is None else int(kilobytes) * 1024 / 1e9
