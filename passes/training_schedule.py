"""schedule, of a training iteration: the names that its callers know."""

from __future__ import annotations

from mgc.passes.scheduling.entry import EntryRun as Iteration
from mgc.passes.scheduling.entry import EntrySchedule as SplitSchedule
from mgc.passes.scheduling.entry import finer
from mgc.passes.scheduling.entry import schedule_entry as schedule_iteration

__all__ = ["Iteration", "SplitSchedule", "finer", "schedule_iteration"]
