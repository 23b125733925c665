"""Which stretches of a clip are dry, for the batch: the gate's verdict in terms of a clip's cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from vderain.batch.jobs import Spans
from vderain.media.cuts import VideoIndex


@dataclass(frozen=True, slots=True)
class Gated:
    """What the gate found in a clip.

    Attributes:
        dry: spans [start, end) of times in which no rain falls.
        dry_gops: for each group of pictures whether all of it is dry; None where nobody looked.
        timeline: rain over time as plain values, for the report.

    """

    dry: Spans = ()
    dry_gops: list[bool] | None = None
    timeline: dict[str, Any] | None = None


class Gating(Protocol):
    """Looks at a whole clip before it is cut."""

    def look(self, index: VideoIndex) -> Gated:
        """Decode a clip once and say where it rains. Raises SourceError."""
