"""What FFmpeg says of a failure reaches the reader."""

import av
import pytest

from vderain.media.io.ffmpeg import heard, said


def test_ffmpegs_errors_are_heard_and_its_silence_stays_as_it_was(tmp_path):
    before = av.logging.get_level()
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + b"\0" * 64)
    for _ in range(2):
        with heard() as words, pytest.raises(av.FFmpegError):
            av.open(str(path))
        assert "moov atom not found" in said(words, "")
    assert av.logging.get_level() == before


def test_words_are_one_line_without_passwords():
    words = [(16, "tls", "refused: rtsp://me:secret@cam/1\n"), (16, "nvenc", "too old\n")] * 3
    told = said(words, "")
    assert "secret" not in told and "\n" not in told
    assert told.endswith("; too old")
    assert said([], "error 5") == "error 5"
