"""What `adni-tcgm adni` will do and cost, before it starts: counts times seconds, from figures of
`benchmarks/RESULTS.md`."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.commands.adni import Options
from pipelines.config import Settings
from pipelines.idle import load_given
from preprocessing.cohort.preflight import check_room
from preprocessing.intake.source import count_people
from preprocessing.simulated.people import CohortDesign

BASELINE = "ce"

# Seconds of one core of a small virtual machine. For orientation only: nothing depends on them.
SIMULATE_RAW, SIMULATE_PREPARED = 4.0, 0.5
PREPARE_RAW = 29.0
REPORT = 1.5
PEAK_GIB = 4.0


@dataclass(frozen=True)
class Plan:
    """How many of each kind of work are asked for."""

    raw: int
    prepared: int
    simulated: bool
    reports: int
    jobs: int

    def seconds(self) -> dict[str, float]:
        """Wall seconds by stage on `jobs` cores like those of RESULTS.md; a training measures its own as it begins
        (`training_cost`)."""
        simulate = self.simulated * (self.raw * SIMULATE_RAW + self.prepared * SIMULATE_PREPARED)
        return {
            "preprocessing": (simulate + self.raw * PREPARE_RAW) / self.jobs,
            "reports": self.reports * REPORT / self.jobs,
        }


def settings_of(options: Options) -> list[Settings]:
    """One `Settings` for each kind of features asked for; the profile follows the device."""
    kinds = ("voxels", "regions") if options.training.features == "both" else (options.training.features,)
    overrides: dict[str, object] = {}
    if options.training.label_rate is not None:
        overrides["data.label_rate"] = options.training.label_rate
    overrides |= {"data.path": str(options.out / "prepared"), "train.device": options.training.device}
    names = {"voxels": f"adni_voxels_{profile_of(options.training.device)}", "regions": "adni_regions"}
    return [load_given(names[kind], options.training.set, overrides) for kind in kinds]


def profile_of(device: str) -> str:
    """`gpu`: on the paper's 64^3 crop. `cpu`: on the hippocampal crop."""
    from adni_tcgm.tcgm.trainer import choose_device

    return "gpu" if choose_device(device).type == "cuda" else "cpu"


def print_plan(options: Options, settings: list[Settings]) -> None:
    source = f"scans under {options.scans.path}" if options.scans.path else "a SIMULATED cohort (no --data was given)"
    print(f"data      {source}")
    print(f"output    {options.out}")
    for s in settings:
        size = "x".join(map(str, s.data.crop_shape)) if s.data.features == "voxels" else f"{s.data.regions} regions"
        methods = ", ".join(methods_of(options))
        network = f"net {s.network}, pretraining {s.pretraining}"
        steps = s.train_for(BASELINE).steps
        print(f"training  {s.data.features} ({size}), {network}, {methods}; {steps} steps each")
    if profile_of(options.training.device) == "cpu" and options.training.features != "regions":
        print("device    CPU: a slimmer network on the hippocampal crop instead of the paper's on 64^3 voxels")
    print(f"labels    {settings[0].data.label_rate:g} of the training labels are shown; seed {options.training.seed}")
    if profile_of(options.training.device) == "cpu":
        print_cost(plan_of(options), len(settings) * len(methods_of(options)))
    if options.stage in ("preprocess", "all") and not options.work.scheduler:
        print(check_room(options.out, plan_of(options).raw, options.work.jobs))


def print_cost(plan: Plan, trainings: int) -> None:
    minutes = {stage: seconds / 60 for stage, seconds in plan.seconds().items()}
    stages = ", ".join(f"{stage} {value:.0f}" for stage, value in minutes.items())
    print(f"runs      {trainings} trainings; {plan.raw} raw and {plan.prepared} prepared people")
    print(f"cost      about {sum(minutes.values()):.0f} minutes ({stages}) and {PEAK_GIB:g} GiB, less what is done;")
    print("          a training on voxels says what it takes as it begins")


def plan_of(options: Options) -> Plan:
    """Counts only: from the folder names of a download, or from the design of the simulated cohort."""
    if options.scans.path:
        raw, prepared = count_people(options.scans.layout, options.scans.path), 0
    else:
        design = design_of(options)
        raw, prepared = design.raw + design.truncated, sum(design.groups.values()) - design.raw - design.truncated
    people_in_test = round(0.2 * (raw + prepared))
    choice = options.reports.subject_reports
    reported = int(choice) if choice.isdigit() else {"all": people_in_test, "none": 0}[choice]
    return Plan(raw, prepared, options.scans.path is None, reported, options.work.jobs)


def design_of(options: Options) -> CohortDesign:
    """The simulated cohort of a run without scans."""
    return CohortDesign() if options.raw is None else CohortDesign(raw=options.raw)


def methods_of(options: Options) -> list[str]:
    return list(dict.fromkeys([options.training.method, BASELINE]))
