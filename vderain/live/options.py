"""Every option of a live session once: default, bounds and help."""

from __future__ import annotations

from dataclasses import dataclass

from vderain.options import check_options, option

# Of EncodeOptions: recordings are never replaced, and live video goes to no standard output.
ENCODE_FOR_FILES = ("overwrite", "pipe_format")


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a camera is read, how long it is waited for, and what happens when the network cannot follow.

    Attempts to connect come after 1, 2, 4 ... ``backoff_max_s`` seconds, each 20 % more or less. The
    default maximum is short so that a camera that is back is seen within ten seconds.
    """

    rtsp_transport: str = option(
        "auto", "How RTSP brings its packets; auto takes tcp, and udp where a server refuses it.",
        choices=("auto", "tcp", "udp"),
    )  # fmt: skip
    timeout_s: float = option(
        5.0, "A camera or an output that is silent for so long is given up and tried again.",
        low=0.5, high=300.0,
    )  # fmt: skip
    tries: int = option(
        0, "Attempts in a row before a camera counts as failed; 0 tries forever.", low=0, high=10**6
    )
    login_tries: int = option(
        3, "Attempts with a password that the camera refuses; many lock out who goes on.",
        low=1, high=100,
    )  # fmt: skip
    backoff_max_s: float = option(
        5.0, "Longest time between two attempts to connect.", low=1.0, high=600.0
    )
    passthrough: str = option(
        "auto",
        "auto sends the picture with its rain when the network fails or is far too slow; never"
        " sends nothing then.",
        choices=("auto", "never"),
    )
    engine_timeout_s: float = option(
        10.0, "A network that does not answer for so long is replaced.", low=0.5, high=600.0
    )
    segment_minutes: float = option(
        10.0, "Length of the files of a recording.", low=0.02, high=1440.0
    )
    ca_file: str | None = option(
        None,
        "Take from rtsps, https and rtmps only certificates that those in this PEM file vouch for; without"
        " it any is taken, as cameras sign their own.",
    )
    audio: str = option(
        "auto", "auto copies sound, as AAC where an output takes no other; none drops it.",
        choices=("auto", "none"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)
