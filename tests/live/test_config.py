import pytest

from vderain.errors import OptionError
from vderain.live.config import read_config
from vderain.live.options import LiveOptions
from vderain.options import EncodeOptions, EngineOptions


def read(tmp_path, text):
    path = tmp_path / "cameras.toml"
    path.write_text(text)
    return read_config(
        path, engine=EngineOptions(), encode=EncodeOptions(), live=LiveOptions(timeout_s=7)
    )


def test_cameras_get_the_options_of_all_and_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("YARD", "rtsp://user:secret@yard/stream")
    config = read(
        tmp_path,
        """
        [engine]
        scale = 0.5
        [live]
        segment_minutes = 5
        engine_timeout = 20
        [encode]
        crf = 25
        [[camera]]
        name = "gate"
        url = "rtsp://gate/stream"
        outputs = ["rtsp://server/gate", "recordings/gate"]
        rtsp_transport = "udp"
        timeout = 2
        bit_depth = 8
        [[camera]]
        url_env = "YARD"
        """,
    )
    gate, yard = config.cameras
    assert config.engine.scale == 0.5
    assert (gate.name, gate.outputs) == ("gate", ("rtsp://server/gate", "recordings/gate"))
    assert (gate.live.rtsp_transport, gate.live.timeout_s, gate.live.segment_minutes) == (
        "udp",
        2,
        5,
    )
    assert (gate.encode.crf, gate.encode.bit_depth, yard.encode.bit_depth) == (25, 8, None)
    assert (yard.name, yard.url) == ("rtsp://***@yard/stream", "rtsp://user:secret@yard/stream")
    assert yard.live.timeout_s == 7
    assert (gate.live.engine_timeout_s, yard.live.engine_timeout_s) == (20, 20)


def test_keys_that_a_camera_may_have_are_named_without_those_for_all(tmp_path):
    with pytest.raises(OptionError, match="use one of") as error:
        read(tmp_path, "[[camera]]\nurl = 'x'\nspeed = 1")
    known = str(error.value).split("use one of ")[1].split(", ")
    assert "rtsp_transport" in known and "engine_timeout" not in known


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no camera"),
        ("camera = 1", r"\[\[camera\]\]"),
        ("[[camera]]\nname = 'a'", "camera a: has no url"),
        ("[[camera]]\nurl_env = 'NOT_SET_AT_ALL'", "NOT_SET_AT_ALL is not set"),
        ("[[camera]]\nurl = 'a'\nurl_env = 'B'", "has url and url_env; keep one"),
        ("[[camera]]\nurl_env = ['B']", "url_env is the name of a variable"),
        ("[[camera]]\nurl = 'x'\nspeed = 1", "speed is not known"),
        (
            "[[camera]]\nname = 'a'\nurl = 'x'\nengine_timeout = 5",
            r"camera a: engine_timeout is for all cameras.*\[live\]",
        ),
        ("[[camera]]\nurl = 'x'\ntimeout = 'long'", "'long' has the wrong type"),
        ("[[camera]]\nurl = 'x'\ntimeout = true", "True has the wrong type"),
        ("[[camera]]\nurl = 'x'\ntimeout = -1", "timeout = -1"),
        ("[[camera]]\nurl = 'x'\noutputs = 'y'", "list of texts"),
        ("[live]\nwhat = 1\n[[camera]]\nurl = 'x'", r"\[live\]: what is not known"),
        ("[encode]\noverwrite = true\n[[camera]]\nurl = 'x'", "overwrite is not known"),
        ("[[camera]]\nurl = 'x'\npipe_format = 'y4m'", "pipe_format is not known"),
        ("live = 1\n[[camera]]\nurl = 'x'", "as a table"),
        ("[server]\nport = 1", "server is not known"),
        ("[[camera", "is not TOML"),
    ],
)
def test_mistakes_are_reported_with_their_place(tmp_path, text, words):
    with pytest.raises(OptionError, match=words):
        read(tmp_path, text)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(OptionError, match="cannot be read"):
        read_config(
            tmp_path / "none.toml",
            engine=EngineOptions(),
            encode=EncodeOptions(),
            live=LiveOptions(),
        )
