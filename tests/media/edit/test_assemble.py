import base64
import shutil
import subprocess
from fractions import Fraction

import av
import pytest

from tests.live.peers.servers import need
from tests.media import synth
from tests.media.bitstream.test_ticks import rate_inside
from tests.media.pieces import assert_shows, cut, derain, encode_for, make, slices
from vderain.errors import SinkError
from vderain.media.bitstream.nal import NalFormat
from vderain.media.edit.assemble import Copied, Encoded, assemble, copy_obstacle
from vderain.media.io.index import index_video
from vderain.media.verify.comparison import problems_of

KINDS = ["h264", "h264-b", "hevc-b", "hevc-cra"]
EXTENSIONS = ["mp4", "mkv", "mov", "ts"]
CHROMIUM = shutil.which("chromium")
PLAY = """async (data) => {
  const video = document.createElement('video');
  video.muted = true;
  video.src = URL.createObjectURL(new Blob(
    [Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], {type: 'video/mp4'}));
  await new Promise((done, failed) => {
    video.onloadeddata = done;
    video.onerror = () => failed(new Error(video.error.message));
  });
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const context = canvas.getContext('2d');
  const level = () => {
    context.drawImage(video, 0, 0);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0;
    for (let i = 1; i < data.length; i += 4) sum += data[i];
    return sum / (data.length / 4);
  };
  const seen = [];
  for (const time of TIMES) {
    // The seek ends before its image is there to be drawn.
    const shown = new Promise((done) => video.requestVideoFrameCallback(done));
    video.currentTime = time;
    await new Promise((done) => { video.onseeked = done; });
    await Promise.race([shown, new Promise((done) => setTimeout(done, 3000))]);
    seen.push(level());
  }
  video.currentTime = 0;
  await new Promise((done) => { video.onseeked = done; });
  await new Promise((done, failed) => {
    video.onended = done;
    video.onerror = () => failed(new Error(video.error.message));
    video.play();
  });
  const quality = video.getVideoPlaybackQuality();
  return {seen, total: quality.totalVideoFrames, corrupt: quality.corruptedVideoFrames};
}"""


def put_together(parts, plan, output, **options):
    made = assemble(parts.source, parts.pieces(plan), str(output), encode=parts.encode, **options)
    return made.report


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_derained_and_copied_parts_play_as_one(tmp_path, kind, extension):
    parts = cut(tmp_path, kind, extension, languages=("eng", "deu"))
    assert copy_obstacle(parts.index, parts.encode, f"out.{extension}") is None
    for plan in ("wdw", "dwd", "www", "ddd"):
        output = tmp_path / f"{plan}.{extension}"
        report = put_together(parts, plan, output)
        assert report.frames == 40
        assert_shows(output, parts.expected(plan))
        assert problems_of(parts.source, str(output), decode=True) == []
    kept = slices(tmp_path / f"wdw.{extension}")[10:30]
    assert kept == slices(parts.source)[10:30]


@pytest.mark.parametrize(
    ("source", "output"), [("ts", "mp4"), ("mkv", "mov"), ("mp4", "ts"), ("mp4", "mkv")]
)
@pytest.mark.parametrize("kind", ["h264-b", "hevc-b"])
def test_parts_move_to_another_container(tmp_path, kind, source, output):
    parts = cut(tmp_path, kind, source, languages=("eng",))
    put_together(parts, "wdw", tmp_path / f"out.{output}")
    assert_shows(tmp_path / f"out.{output}", parts.expected("wdw"))
    assert problems_of(parts.source, str(tmp_path / f"out.{output}"), decode=True) == []


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_all_else_of_the_source_comes_through(tmp_path, extension):
    subtitle = {"mp4": "mov_text", "mkv": "subrip"}[extension]
    parts = cut(
        tmp_path, "h264-b", extension, languages=("eng", "deu"), subtitle=subtitle,
        rotation=90, chapters=True, metadata={"title": "a drive"}, data=extension == "mp4",
    )  # fmt: skip
    output = tmp_path / f"out.{extension}"
    report = put_together(parts, "dwd", output)
    assert not report.losses and len(report.tracks_copied) == 3 + (extension == "mp4")
    assert synth.streams(output) == synth.streams(parts.source)
    whole = tmp_path / f"whole.{extension}"
    synth.process(parts.source, whole)
    for index in range(1, 4):
        assert synth.payloads(output, index) == synth.payloads(whole, index)
        assert synth.packet_times(output, index) == synth.packet_times(whole, index)
    assert synth.info(output).rotation == synth.info(parts.source).rotation != 0
    with av.open(str(output)) as container:
        assert container.metadata["title"] == "a drive" and len(container.chapters()) == 2


@pytest.mark.parametrize("codec", ["av1", "ffv1", "hevc"])
def test_segments_of_other_codecs_are_put_together(tmp_path, codec):
    source = make(tmp_path / "a.mkv", "h264-b", pix_fmt="yuv420p10le", attributes={"colorspace": 1})
    gops, encode = index_video(source).gops, encode_for(codec)
    derain(source, tmp_path / "0.nut", None, gops[2].start_pts, encode)
    derain(source, tmp_path / "1.nut", gops[2].start_pts, None, encode)
    pieces = [Encoded(str(tmp_path / f"{number}.nut")) for number in range(2)]
    assemble(source, pieces, str(tmp_path / "out.mkv"), encode=encode)
    both = synth.decoded_frames(tmp_path / "0.nut") + synth.decoded_frames(tmp_path / "1.nut")
    assert_shows(tmp_path / "out.mkv", [image.to_ndarray() for image in both])
    assert problems_of(source, str(tmp_path / "out.mkv"), decode=True) == []
    assert synth.info(tmp_path / "out.mkv").tags.matrix == 1
    assert synth.info(tmp_path / "out.mkv").pix_fmt == "yuv420p10le"


def test_samples_of_mp4_bring_no_parameter_sets_and_the_header_holds_both(tmp_path):
    parts = cut(tmp_path, "h264-b", "mp4")
    put_together(parts, "wdw", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.codec_tag == "avc1"
        nals = NalFormat.of("h264", stream.codec_context.extradata)
        assert sorted((nals.kind(unit), nals.number(unit)) for unit in nals.sets) == [
            (7, 0), (7, 15), (8, 0), (8, 15),
        ]  # fmt: skip
        for packet in container.demux(stream):
            assert not any(map(nals.is_parameter_set, nals.split(bytes(packet))))


@pytest.mark.parametrize("kind", ["h264-open", "hevc-open"])
def test_groups_that_are_not_closed_are_refused(tmp_path, kind):
    parts = cut(tmp_path, kind, "mp4")
    with pytest.raises(SinkError, match="closed GOPs"):
        put_together(parts, "wdw", tmp_path / "out.mp4")
    put_together(parts, "www", tmp_path / "out.mp4")
    assert_shows(tmp_path / "out.mp4", parts.expected("www"))
    assert problems_of(parts.source, str(tmp_path / "out.mp4"), decode=True) == []


def test_pieces_that_do_not_fit_leave_nothing(tmp_path):
    parts = cut(tmp_path, "h264", "mp4")
    output = tmp_path / "out.mp4"
    before = sorted(tmp_path.iterdir())
    other = tmp_path / "0.nut"
    backwards = parts.pieces("wdw")[::-1]
    with pytest.raises(SinkError, match="begins before"):
        assemble(parts.source, backwards, str(output), encode=parts.encode)
    derain(parts.source, other, *parts.spans[0], encode_for("h264", preset="veryslow"))
    with pytest.raises(SinkError, match="different settings"):
        put_together(parts, "wdw", output)
    with pytest.raises(SinkError, match="no pieces"):
        assemble(parts.source, [], str(output), encode=parts.encode)
    half = Copied(parts.spans[0][0], parts.spans[0][1] - 1)
    with pytest.raises(SinkError, match="closed GOPs"):
        assemble(parts.source, [half], str(output), encode=parts.encode)
    assert sorted(tmp_path.iterdir()) == before


def test_the_obstacles_to_copying_have_names(tmp_path):
    index = index_video(make(tmp_path / "a.mp4", "h264"))
    assert "codec='h264'" in copy_obstacle(index, encode_for("hevc"), "out.mp4")
    assert "yuv420p10le" in copy_obstacle(index, encode_for("h264", bit_depth=10), "out.mp4")
    assert "times" in copy_obstacle(index, encode_for("h264"), "out.avi")
    assert "cannot hold" in copy_obstacle(index, encode_for("h264"), "out.webm")
    assert "deinterlaced" in copy_obstacle(
        index, encode_for("h264", interlaced="deinterlace"), "out.mp4"
    )


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(
    ("rate", "step", "unit", "timecode"),
    [
        (Fraction(25), 3600, 90_000, "01:02:03:04"),
        (Fraction(24_000, 1001), 1001, 24_000, "01:02:03:04"),
        (Fraction(60_000, 1001), 1001, 60_000, "10:20:30;04"),
    ],
)
def test_the_assembled_video_has_the_rate_and_the_timecode_of_its_source(
    tmp_path, extension, rate, step, unit, timecode
):
    pts = tuple(range(0, 40 * step, step))
    parts = cut(
        *(tmp_path, "h264", extension),
        **{"pts": pts, "time_base": Fraction(1, unit), "rate": rate},
        metadata={"timecode": timecode},
    )
    output = tmp_path / f"out.{extension}"
    put_together(parts, "www", output)
    with av.open(str(output)) as container:
        video = container.streams.video[0]
        assert video.average_rate == pytest.approx(rate, rel=1e-3)
        tags = {**container.metadata, **video.metadata}
        assert timecode in (tags.get("timecode"), tags.get("TIMECODE"))
    assert rate_inside(output) == pytest.approx(rate, rel=1e-3)
    assert problems_of(parts.source, str(output)) == []


@pytest.mark.parametrize("plan", ["wdw", "dwd"])
def test_system_ffmpeg_plays_and_seeks_without_a_complaint(tmp_path, plan):
    need("system ffmpeg", shutil.which("ffmpeg") is not None)
    parts = cut(tmp_path, "h264-b", "mp4")
    output = tmp_path / "out.mp4"
    put_together(parts, plan, output)
    for seek in ([], ["-ss", "0.2"], ["-ss", "0.45"], ["-ss", "1.25"]):
        done = subprocess.run(
            ["ffmpeg", "-v", "warning", *seek, "-i", output, "-f", "framemd5", "-"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        if not seek:
            assert sum(line[:1] != "#" for line in done.stdout.splitlines()) == 40


@pytest.mark.slow
def test_a_browser_plays_through_the_seams_and_seeks_into_each_part(tmp_path):
    need("browser", CHROMIUM is not None)
    from playwright.sync_api import sync_playwright

    parts = cut(tmp_path, "h264-b", "mp4", size=(160, 96))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        for plan in ("wdw", "dwd"):
            output = tmp_path / f"{plan}.mp4"
            put_together(parts, plan, output)
            times = [0.22, 0.39, 0.43, 0.8, 1.15, 1.25, 1.5]  # parts begin at 0.41 and 1.21 s
            page = browser.new_page()
            data = base64.b64encode(output.read_bytes()).decode()
            got = page.evaluate(PLAY.replace("TIMES", str(times)), data)
            wet = [plan[(time > 0.41) + (time > 1.2)] == "w" for time in times]
            assert got["total"] >= 40 and got["corrupt"] == 0
            # Derained parts are half as bright.
            assert [level < 85 for level in got["seen"]] == wet, got
        browser.close()
