"""Programs of MPEG-TS: an output has one, and the report says so."""

import struct

import pytest

from tests.cases.clips import Part, write
from tests.media.synth import streams
from tests.media.synth import write as write_aac
from vderain.media.verify.facts import Facts

_PACKET = 188


def checksum(table):
    """CRC-32 of MPEG-2."""
    value = 0xFFFF_FFFF
    for byte in table:
        value ^= byte << 24
        for _ in range(8):
            value = ((value << 1) ^ (0x04C1_1DB7 if value >> 31 else 0)) & 0xFFFF_FFFF
    return struct.pack(">I", value)


def with_programs(path, *numbers):
    """Give every table of a file's programs these numbers; all programs have the same tracks."""
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), _PACKET):
        if content[at + 1] & 0x5F == 0x40 and content[at + 2] == 0:
            place = bytes(content[at + 15 : at + 17])
            entries = b"".join(struct.pack(">H", number) + place for number in numbers)
            head = struct.pack(">BHHBBB", 0, 0xB000 | (9 + len(entries)), 1, 0xC1, 0, 0)
            table = head + entries
            table += checksum(table)
            content[at + 4 : at + _PACKET] = b"\0" + table.ljust(_PACKET - 5, b"\xff")
    path.write_bytes(content)


@pytest.mark.parametrize(("name", "more"), [("in.ts", {}), ("in.m2ts", {"mpegts_m2ts_mode": "1"})])
def test_several_programs_are_named_before_the_run_and_after_it(user, name, more):
    source = write(user.folder / name, Part(20), **more)
    if more:
        skipped = 4
        packets = source.read_bytes()
        bare = b"".join(packets[at + skipped : at + 192] for at in range(0, len(packets), 192))
        source.write_bytes(bare)
    with_programs(source, 3, 7)
    if more:
        bare = source.read_bytes()
        source.write_bytes(
            b"".join(
                bytes(skipped) + bare[at : at + _PACKET] for at in range(0, len(bare), _PACKET)
            )
        )
    done, dry = user.run(name, "dry.mkv")
    assert done.code == 3
    named = [loss for loss in done.losses if "2 programs of MPEG-TS (3, 7)" in loss]
    assert len(named) == 1
    assert named[0] in user.info(name)["losses"]
    assert len(streams(dry)) == 2


def test_one_program_is_not_named(user):
    write(user.folder / "in.ts", Part(20))
    done, _ = user.run("in.ts", "dry.ts")
    assert (done.code, done.losses) == (0, [])


@pytest.mark.parametrize("target", ["out.ts", "out.m2ts", "out.mkv", "out.mp4"])
def test_the_name_of_a_programme_is_kept(user, target):
    write(user.folder / "in.ts", Part(20), metadata={"service_name": "Rain TV"})
    done, output = user.run("in.ts", target)
    assert (done.code, done.losses) == (0, [])
    assert Facts.read(str(output)).services == {"service_name": "Rain TV"}


def test_the_name_of_a_programme_that_a_container_cannot_hold_is_a_loss(user):
    write(user.folder / "in.ts", Part(20), metadata={"service_name": "Rain TV"})
    done, _ = user.run("in.ts", "out.avi")
    assert "service name of MPEG-TS: Rain TV: not in the output" in done.losses


def test_the_name_of_a_file_names_no_loss(user):
    about = {"languages": ("eng",), "metadata": {"service_name": "Rain TV"}}
    write_aac(user.folder / "in.ts", **about)
    done, _ = user.run("in.ts", "service.avi")
    assert any("service.avi" in loss for loss in done.losses), done.said
    assert "service name of MPEG-TS: Rain TV: not in the output" in done.losses


def test_a_batch_keeps_the_name_of_a_programme(user):
    write(user.folder / "in.ts", Part(20), metadata={"service_name": "Rain TV"})
    done, folder = user.batch("in.ts")
    assert done.code == 0, done.said
    assert Facts.read(str(folder / "in.ts")).services == {"service_name": "Rain TV"}
