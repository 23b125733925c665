"""Messages about interlaced and HDR video, which the networks were not trained on."""

from __future__ import annotations

from vderain.interfaces import SourceStats


def interlaced_refusal(name: str) -> str:
    """The message for interlaced video; ``name`` is that of the input."""
    return (
        f"{name}: is interlaced, which this network was not trained on; use interlaced='deinterlace'"
        " to turn it into full frames first, or interlaced='keep' where only the flag is wrong"
    )


def hdr_refusal(name: str, kind: str) -> str:
    """The message for HDR video of this kind (``hdr_name``)."""
    return (
        f"{name}: is HDR video ({kind}), which this network was not trained on;"
        " use hdr='keep' to go on all the same"
    )


def report_interlaced(stats: SourceStats, count: int, policy: str) -> None:
    """Add a note or a loss on ``count`` interlaced frames; ``policy`` is ``EncodeOptions.interlaced``."""
    if not count:
        return
    if policy == "deinterlace":
        stats.notes.append(f"{count} interlaced frames were deinterlaced")
    elif policy == "keep":
        stats.notes.append(
            f"{count} frames flagged as interlaced were taken as they are, and are flagged"
            " as progressive in the output"
        )
    else:
        loss = f"{count} interlaced frames were taken as full images, with combs"
        stats.lose([f"{loss}; use interlaced='deinterlace'"])
