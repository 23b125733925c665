"""What MP4 and MOV hold besides tracks comes out of MP4 and MOV, and lies next to other containers."""

import struct

import av
import pytest

from tests.media.synth import decoded_frames, payloads, write
from vderain.media.mp4.boxes import Box, places, read_movie, tracks_of


def movie_of(path):
    with open(path, "rb") as file:
        return read_movie(file, next(p for p in places(file) if p.kind == b"moov"))


def top(path):
    """The boxes at the top of a file: kind and bytes."""
    with open(path, "rb") as file:
        found = list(places(file))
        content = [(p.kind, file.seek(p.start) and file.read(p.size)) for p in found]
    return content


def gps(path):
    """What the index of positions of a dashcam names."""
    content = path.read_bytes()
    (index,) = movie_of(path).all(b"gps ")
    count = (len(index.data) - 8) // 8
    entries = [struct.unpack_from(">II", index.data, 8 + 8 * number) for number in range(count)]
    return [content[start : start + size] for start, size in entries]


@pytest.mark.parametrize("command", ["run", "batch", "mov"])
def test_the_gps_track_of_a_dashcam_is_found_where_its_index_says(user, command):
    source = user.file("gps_boxes.mp4")
    if command == "batch":
        done, folder = user.batch("gps_boxes.mp4")
        output = folder / "gps_boxes.mp4"
    else:
        done, output = user.run("gps_boxes.mp4", "out.mov" if command == "mov" else "out.mp4")
    assert done.code == 0 and done.losses == [], done.said
    assert gps(output) == gps(source)
    assert all(piece[4:12] == b"freeGPS " for piece in gps(output)) and len(gps(output)) == 2
    kinds = [kind for kind, _ in top(output)]
    assert kinds.index(b"moov") < kinds.index(b"mdat"), "players start before all is loaded"
    assert len(decoded_frames(output)) == 50
    assert payloads(output, 1) == payloads(source, 1)


def rewritten(path, change, behind=b""):
    """The file with boxes added to its index, which stands behind the samples, and more behind it."""
    content = path.read_bytes()
    with path.open("rb") as file:
        index = next(p for p in places(file) if p.kind == b"moov")
        movie = read_movie(file, index)
    assert index.end == len(content)
    change(movie)
    path.write_bytes(content[: index.start] + bytes(movie) + behind)
    return path


def made(user, change, behind=b"", name="in.mp4", **video):
    path = user.folder / name
    write(path, languages=("eng",), **video)
    return rewritten(path, change, behind)


def add(*boxes):
    return lambda movie: movie.children.extend(boxes)


UUID = Box(b"uuid", bytes(range(16)) + b"a camera's own")


def test_boxes_and_data_at_the_end_of_a_file_stay(user):
    trailer = b"\xff\xff\xff\xff no box but a trailer that a camera's program looks for"
    behind = bytes(UUID) + bytes(Box(b"skip", b"notes")) + bytes(Box(b"free", bytes(9))) + trailer
    made(user, add(), behind)
    done, output = user.run("in.mp4", "out.mp4")
    assert (done.code, done.losses) == (0, [])
    assert output.read_bytes().endswith(bytes(UUID) + bytes(Box(b"skip", b"notes")) + trailer)
    assert len(decoded_frames(output)) == 10


def test_boxes_of_the_index_and_user_data_that_ffmpeg_does_not_know_stay(user):
    camera = [Box(b"FIRM", b"HD9.01"), Box(b"GPMF", bytes(range(64))), Box(b"HMMT", bytes(4))]
    made(user, add(UUID, Box(b"udta", b"", camera)))
    done, output = user.run("in.mp4", "out.mp4")
    assert (done.code, done.losses) == (0, [])
    movie = movie_of(output)
    assert [box.data for box in movie.all(b"uuid")] == [UUID.data]
    assert [box.data for box in movie.find(b"udta").children] == [box.data for box in camera]


def test_pieces_that_stand_among_the_samples_are_copied_with_their_index(user):
    path = made(user, add())
    with path.open("rb") as file:
        samples = next(p for p in places(file) if p.kind == b"mdat")
    at = samples.start + 100
    index = Box(b"gps ", struct.pack(">IIIIII", 0x101, 2, at, 50, at + 60, 40))
    rewritten(path, add(index))
    done, output = user.run("in.mp4", "out.mp4")
    assert done.code == 0 and gps(output) == gps(path) and len(gps(output)[1]) == 40
    assert len(decoded_frames(output)) == 10


@pytest.mark.parametrize("target", ["out.mkv", "out.ts", "out.avi"])
def test_boxes_lie_next_to_a_container_that_cannot_hold_them(user, target):
    source = user.file("gps_boxes.mp4")
    done, _ = user.run("gps_boxes.mp4", target)
    kept = user.folder / f"{target}.boxes.bin"
    assert done.code == 3
    assert any("2 free, moov/gps" in loss and kept.name in loss for loss in done.losses)
    assert all(piece in kept.read_bytes() for piece in gps(source))
    assert kept.with_name(f"{kept.name}.jsonl").read_text().count('"position"') == 2


def test_boxes_that_a_pipe_cannot_take_are_a_loss(user, monkeypatch):
    done = user.give(["run", str(user.file("gps_boxes.mp4")), "-", "--preset", "ultrafast"])
    assert done.code == 3 and "2 free, moov/gps): dropped" in done.said


def refer(movie):
    """Let the sound of a file name its video, as a dubbed track does, and a track that is not there."""
    (sound,) = [track for track in tracks_of(movie).values() if b"soun" in bytes(track)]
    named = struct.pack(">II", 1, 99)
    sound.children.insert(1, Box(b"tref", bytes(Box(b"fall", named)) + bytes(Box(b"tmcd", named))))


def references(path):
    """Kind and numbers of what each track names."""
    return {
        number: [(box.data[4:8], box.data[8:12]) for box in track.all(b"tref")]
        for number, track in tracks_of(movie_of(path)).items()
        if track.all(b"tref")
    }


@pytest.mark.parametrize("target", ["out.mp4", "out.mov"])
def test_tracks_name_each_other_as_before(user, target):
    made(user, refer)
    done, output = user.run("in.mp4", target)
    assert (done.code, done.losses) == (0, [])
    assert references(output) == {2: [(b"fall", struct.pack(">I", 1))]}


def test_tracks_that_name_each_other_are_kept_next_to_matroska(user):
    made(user, refer)
    assert "moov/trak 2/tref/fall" in user.info("in.mp4")["boxes"]
    done, _ = user.run("in.mp4", "out.mkv")
    assert done.code == 3 and "moov/trak 2/tref/fall" in done.losses[0]


def test_a_track_that_names_one_that_is_left_out_is_a_loss(user):
    def change(movie):  # samples with two descriptions, which no track of the output has
        table = movie.all(b"trak")[2].find(b"mdia", b"minf", b"stbl", b"stsd")
        table.data, table.children = bytes(7) + b"\2", [*table.children, *table.children]
        table.children[0].kind = b"mett"
        named = Box(b"tref", bytes(Box(b"cdsc", struct.pack(">I", 3))))
        movie.all(b"trak")[1].children.insert(1, named)

    made(user, change, data=True)
    done, output = user.run("in.mp4", "out.mp4")
    assert done.code == 3 and "boxes: moov/trak/tref/cdsc: not in the output" in done.losses
    assert references(output) == {}
    told = user.info("in.mp4")
    assert "boxes: moov/trak/tref/cdsc" in told["losses"] and "tref" not in told["boxes"]


def spherical(path):
    """What the description of the video says of a view around."""
    (track,) = [t for t in tracks_of(movie_of(path)).values() if b"vide" in bytes(t)]
    content = bytes(track)
    return [
        content[at - 4 : at + 60] for at in [content.find(b"sv3d"), content.find(b"st3d")] if at > 0
    ]


@pytest.mark.parametrize("command", ["run", "batch"])
def test_a_view_around_stays_one(user, command):
    source = user.file("spherical.mp4")
    if command == "run":
        done, output = user.run("spherical.mp4", "out.mp4")
    else:
        done, folder = user.batch("spherical.mp4")
        output = folder / "spherical.mp4"
    assert done.code == 0, done.said
    assert spherical(output)[0][:20] == spherical(source)[0][:20] and spherical(source)
    assert len(decoded_frames(output)) == 25


def test_a_view_around_that_is_lost_is_named(user):
    done, _ = user.run("spherical.mp4", "out.mkv")
    assert done.code == 3 and any("spherical" in loss for loss in done.losses)


def test_a_crop_stays_where_frames_keep_their_size(user):
    crop = Box(b"clap", struct.pack(">8I", 60, 1, 40, 1, 0, 1, 0, 1))

    def change(movie):
        (entry,) = movie.all(b"trak")[0].find(b"mdia", b"minf", b"stbl", b"stsd").children
        entry.data += bytes(crop)

    made(user, change)
    done, output = user.run("in.mp4", "out.mp4")
    assert (done.code, done.losses) == (0, []) and bytes(crop) in output.read_bytes()
    done, _ = user.run("in.mp4", "out.mkv")
    assert done.code == 3 and any("cropping" in loss for loss in done.losses)


def test_the_atoms_of_tags_that_phones_read_stay(user):
    source = user.file("place_tags.mov")
    done, output = user.run("place_tags.mov", "out.mov")
    assert (done.code, done.losses) == (0, [])
    wanted = [box for box in movie_of(source).find(b"udta").children if box.kind != b"\xa9swr"]
    assert [b.kind for b in wanted] == [b"\xa9nam", b"\xa9mak", b"\xa9mod", b"\xa9xyz"]
    assert movie_of(output).find(b"udta").children == wanted
    assert movie_of(output).all(b"meta") == []
    with av.open(str(output)) as container:
        assert container.metadata["location"] == "+10.0000+020.0000/"


@pytest.mark.parametrize("target", ["out.mp4", "out.mov"])
def test_a_place_from_matroska_becomes_the_atom_that_phones_read(user, target):
    tags = {"title": "Trip", "location": "+10.0000+020.0000/", "lens": "wide"}
    write(user.folder / "in.mkv", metadata=tags)
    done, output = user.run("in.mkv", target)
    assert (done.code, done.losses) == (0, [])
    with av.open(str(output)) as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
    assert {key: found[key] for key in tags} == tags
    assert b"\xa9xyz" in bytes(movie_of(output)) and len(decoded_frames(output)) == 10


def test_data_tracks_next_to_the_output_have_their_description(user):
    def change(movie):
        (entry,) = movie.all(b"trak")[2].find(b"mdia", b"minf", b"stbl", b"stsd").children
        entry.kind, entry.data = b"mett", entry.data[:8] + b"\0application/camera\0"

    source = made(user, change, data=True)
    done, output = user.run("in.mp4", "out.mkv")
    (kept,) = user.folder.glob("out.mkv.2.*.bin")
    assert done.code == 3 and len(done.losses) == 1 and kept.name in done.losses[0]
    assert kept.read_bytes() == b"".join(payloads(source, 2))
    header = kept.with_name(f"{kept.name}.jsonl").read_text()
    assert b"application/camera".hex() in header
    with av.open(str(output)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_a_track_without_packets_is_named_and_boxes_of_others_stay_theirs(user):
    notes = Box(b"udta", b"", [Box(b"note", b"of the last track")])

    def change(movie):
        tables = movie.all(b"trak")[1].find(b"mdia", b"minf", b"stbl")
        for table in tables.all(b"stts", b"stsc", b"stco"):
            table.data = bytes(8)
        tables.all(b"stsz")[0].data = bytes(12)
        movie.all(b"trak")[2].children.append(notes)

    write(user.folder / "in.mp4", languages=("eng", "fra", "deu"))
    source = rewritten(user.folder / "in.mp4", change)
    done, output = user.run("in.mp4", "out.mp4")
    assert (done.code, done.losses) == (0, []), done.said
    (note,) = [line for line in done.lines("note") if "has no packets" in line]
    assert note.startswith("#1 audio")
    held = [b"of the last track" in bytes(track) for track in movie_of(output).all(b"trak")]
    assert held == [False, True, False]
    assert payloads(output, 1) == payloads(source, 2)


def described_by(*boxes):
    """Boxes in the description of a file's video."""

    def change(movie):
        (entry,) = movie.all(b"trak")[0].find(b"mdia", b"minf", b"stbl", b"stsd").children
        entry.data += b"".join(map(bytes, boxes))

    return change


def test_dolby_vision_is_a_loss(user):
    made(user, described_by(Box(b"dvvC", bytes((1, 0, 0x10, 0x35, 0x10)) + bytes(19))))
    done, _ = user.run("in.mp4", "out.mp4")
    assert done.code == 3 and len(done.losses) == 1 and "Dolby Vision" in done.losses[0]
    assert done.losses[0] in user.info("in.mp4")["losses"]


def test_a_colour_profile_is_one_loss(user):
    made(user, described_by(Box(b"colr", b"prof" + bytes(128))))
    done, _ = user.run("in.mp4", "out.mp4")
    assert len(done.losses) == 1 and "colour profile" in done.losses[0]
    assert user.info("in.mp4")["losses"] == done.losses


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_telemetry_that_ffmpeg_takes_for_a_timecode_is_kept(user, target):
    def change(movie):
        (entry,) = movie.all(b"trak")[2].find(b"mdia", b"minf", b"stbl", b"stsd").children
        entry.kind = b"rtmd"

    source = made(user, change, data=64)
    with av.open(str(source)) as container:
        assert "timecode" in container.streams[2].metadata
    done, output = user.run("in.mp4", target)
    kept = b"".join(payloads(source, 2))
    if target == "out.mp4":
        assert done.code == 0 and b"".join(payloads(output, 2)) == kept
        return
    (sidecar,) = user.folder.glob("out.mkv.2.*.bin")
    assert done.code == 3 and f"kept next to the output in {sidecar.name}" in done.said
    assert sidecar.read_bytes() == kept


def test_a_file_beyond_four_gigabytes_gets_longer_positions(tmp_path):
    from vderain.media.mp4 import graft as module

    path = tmp_path / "in.mp4"
    write(path)
    before = payloads(path, 0)
    movie = movie_of(path)
    module._widen_offsets(movie, 1 << 33)
    assert movie.all(b"trak")[0].find(b"mdia", b"minf", b"stbl", b"co64") is not None
    with path.open("r+b") as file:
        index = next(p for p in places(file) if p.kind == b"moov")
        file.seek(index.start)
        file.write(bytes(movie))
    module.graft(path, module.Graft(tags={"a": "b"}))
    assert payloads(path, 0) == before


def test_info_names_boxes_and_what_becomes_of_them(user):
    found = user.info("gps_boxes.mp4")
    assert (found["boxes"], found["boxes_carried"], found["losses"]) == (
        "2 free, moov/gps",
        True,
        [],
    )
    user.file("spherical.mp4").rename(user.folder / "in.3gp")  # which becomes Matroska
    found = user.info("in.3gp")
    assert "stsd" in found["boxes"] and not found["boxes_carried"]
    assert any("spherical" in loss for loss in found["losses"])
    said = user.give(["info", str(user.folder / "in.3gp")]).said
    assert "kept in a file next to the output (matroska)" in said and "loss: spherical" in said
