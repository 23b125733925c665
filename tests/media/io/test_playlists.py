"""Local files that name other files: none is opened, but for a playlist's own folder."""

from contextlib import closing

import pytest

from tests.media.synth import write
from vderain.errors import SourceError, UnusableError
from vderain.frames import Frame
from vderain.media import open_source
from vderain.media.live.camera import CameraSource
from vderain.media.live.connect import CameraOptions
from vderain.options import EncodeOptions, RunOptions

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n{}#EXTINF:0.4,\n{}\n#EXT-X-ENDLIST\n"
LISTS = {
    "ffconcat version 1.0\nfile a.ts\n": "concat.mp4",
    HLS.format("", "a.ts"): "hls.ts",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n": "x.mkv",
}


@pytest.fixture
def folder(tmp_path):
    """A folder with a clip, ``a.ts``, next to one with another."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.ts")
    return tmp_path / "here"


def frames(path):
    with closing(open_source(str(path), run=RunOptions(), encode=EncodeOptions())) as source:
        return sum(isinstance(item, Frame) for item in source)


@pytest.mark.parametrize(("text", "name"), LISTS.items())
def test_a_list_of_files_under_the_name_of_a_video_is_not_followed(folder, text, name):
    (folder / name).write_text(text)
    with pytest.raises(SourceError, match=f"{name}: is a list of other files.*m3u8"):
        frames(folder / name)
    with pytest.raises(UnusableError, match="is a list of other files"):
        CameraSource(str(folder / name), CameraOptions(), EncodeOptions())


def test_a_list_on_standard_input_is_not_followed(folder, monkeypatch, tmp_path):
    (folder / "concat").write_text(next(iter(LISTS)))
    monkeypatch.chdir(folder)
    with (folder / "concat").open() as given, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", given)
        with pytest.raises(SourceError, match="standard input: is no video"):
            frames("-")


def test_a_playlist_reads_the_files_of_its_folder(folder):
    (folder / "sub").mkdir()
    (folder / "a.ts").rename(folder / "sub" / "a.ts")
    (folder / "sub" / "part.m3u8").write_text(
        HLS.format('#EXT-X-SESSION-DATA:DATA-ID="x"\n', "a.ts")
    )
    (folder / "all.m3u8").write_text(
        "#EXTM3U\n# URI=a comment\n#EXT-X-STREAM-INF:BANDWIDTH=1\nsub/part.m3u8\n"
    )
    assert frames(folder / "all.m3u8") == frames(folder / "sub" / "a.ts") == 10


@pytest.mark.parametrize(
    "named",
    ["../there/a.ts", "{away}/a.ts", "file:{away}/a.ts", "sub/../../there/a.ts", "link.ts", "http://127.0.0.1:9/a.ts",
     "concat:../there/a.ts|a.ts"],
)  # fmt: skip
def test_a_playlist_names_nothing_outside_of_its_folder(folder, named):
    away = folder.parent / "there"
    (folder / "link.ts").symlink_to(away / "a.ts")
    text = named.format(away=away)
    (folder / "p.m3u8").write_text(HLS.format("", text))
    (folder / "map.m3u8").write_text(
        HLS.format(f'#EXT-X-MAP:BYTERANGE="9@0",URI="{text}"\n', "a.ts")
    )
    (folder / "key.m3u8").write_text(
        HLS.format(f'#EXT-X-KEY:METHOD=AES-128,URI="{text}"\n', "a.ts")
    )
    (folder / "variants.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\np.m3u8\n")
    for name in ("p", "map", "key", "variants"):
        with pytest.raises(SourceError, match="of its own folder only"):
            frames(folder / f"{name}.m3u8")


def test_lines_of_a_playlist_end_where_ffmpeg_ends_them(folder):
    for ending in ("\r", "\0", "\r\n"):
        text = HLS.format("", f"a.ts{ending}#EXTINF:1,{ending}../there/a.ts")
        (folder / "p.m3u8").write_bytes(text.encode())
        with pytest.raises(SourceError, match=r"names '\.\./there/a\.ts'"):
            frames(folder / "p.m3u8")
