"""How a Yellow platform keeps the history of records."""

from __future__ import annotations

from enum import Enum


class YellowMilestoneStrategy(Enum):
    """What a merge table keeps of a record: its live version, or every version by batch."""

    LIVE_ONLY = "live_only"
    BATCH_MILESTONED = "batch_milestoned"
