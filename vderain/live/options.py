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
        "auto", "RTSP transport; auto uses TCP, and UDP where the server refuses TCP.",
        choices=("auto", "tcp", "udp"),
    )  # fmt: skip
    timeout_s: float = option(
        5.0, "Reconnect a camera or an output that is silent for this many seconds.",
        low=0.5, high=300.0,
    )  # fmt: skip
    tries: int = option(
        0, "Failed connection attempts in a row before a camera is given up; 0: never.",
        low=0, high=10**6,
    )  # fmt: skip
    login_tries: int = option(
        3, "Attempts with a password that the camera refuses; many cameras lock the account.",
        low=1, high=100, expert=True,
    )  # fmt: skip
    backoff_max_s: float = option(
        5.0, "Longest delay between two connection attempts, in seconds.",
        low=1.0, high=600.0, expert=True,
    )  # fmt: skip
    passthrough: str = option(
        "auto",
        "Send the rainy frames when the network fails or is far too slow (auto), or nothing (never).",
        choices=("auto", "never"),
    )
    engine_timeout_s: float = option(
        10.0, "Replace an engine that returns nothing for this many seconds.",
        low=0.5, high=600.0, expert=True,
    )  # fmt: skip
    segment_minutes: float = option(
        10.0, "Length of each file of a recording, in minutes.", low=0.02, high=1440.0
    )
    ca_file: str | None = option(
        None,
        "Accept only certificates that this PEM file signs, for rtsps, https and rtmps [default: accept any,"
        " since cameras sign their own].",
    )
    audio: str = option(
        "auto", "Copy the audio, as AAC where an output accepts no other codec (auto), or drop it (none).",
        choices=("auto", "none"),
    )  # fmt: skip
    max_memory: float | None = option(
        None,
        "Memory in GiB that the frames of a camera may take [default: what is free, at least 4].",
        low=0.001, high=1e5, expert=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)
