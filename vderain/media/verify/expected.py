"""What an output must hold, collected while it is written and compared once it is complete."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from typing import Any

from vderain.media.carry.template import Template
from vderain.media.verify.comparison import verified
from vderain.media.verify.contents import Contents
from vderain.media.verify.facts import Facts


class Expected:
    """The source's properties, with the frames and the packets that go into the output.

    Args:
        template: of the source, which is still open.
        path: of the source.
        counts_packets: False where others compare frames and packets; only the properties are then compared.

    """

    def __init__(self, template: Template, path: str, *, counts_packets: bool) -> None:
        self._template = template
        self._given = Contents.of(template.container, path) if counts_packets else None

    def frame(self, pts: int, duration: int, unit: Fraction) -> None:
        """Add a frame with the time that it should have, in units of ``unit`` seconds."""
        if self._given is not None:
            self._given.unit = unit
            self._given.show(pts, duration)

    def packet(self, packet: Any, index: int) -> None:
        """Add a packet of the source's track ``index``."""
        if self._given is not None:
            self._given.add(packet, index)

    def missing(
        self,
        path: str,
        *,
        frames: int,
        timed: bool,
        copied: Collection[int],
        shift_s: Fraction,
        losses: Collection[str],
    ) -> list[str]:
        """What the complete output lacks and no loss names, one line each.

        Args:
            path: of the output.
            frames: how many went in.
            timed: whether the container stores times.
            copied: indices of the source's tracks that the output holds.
            shift_s: what was added to all times.
            losses: those that are named already.

        """
        template = self._template
        facts = Facts.of(
            template.container,
            template.container.streams[template.video_index],
            views=template.views,
            turned=template.display_matrix is not None,
            chapters=len(template.chapters),
            leftovers=template.leftovers,
            tracks=copied,
            services=template.services,
        )
        if self._given is not None:
            self._given.others = {i: o for i, o in self._given.others.items() if i in copied}
            for other in self._given.others.values():
                other.move(shift_s)
        return verified(facts, self._given, path, frames=frames, timed=timed, losses=losses)
