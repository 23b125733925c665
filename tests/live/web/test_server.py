"""The page's server: who may look, what is answered, and that nothing leaks."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import httpx
import numpy as np
import pytest

from tests.fakes import gray_frame
from tests.live.fakes import SlowEngine, shown, until
from vderain.errors import OptionError
from vderain.interfaces import EngineSpec
from vderain.live.web.server import PageServer
from vderain.media.live.types import LiveFrame
from vderain.options import EngineOptions

SECRET = "geheim"


def test_pair_is_the_same_frame_twice(page):
    address, station = page()
    assert shown(station)
    answer = httpx.get(f"{address}/api/cameras/0/pair.jpg?width=640")
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (720, 640, 3)
    rainy, dry = image[:360].astype(int), image[360:].astype(int)
    # The engine of the test darkens by five levels of luma: the same frame, but for that.
    assert 4 < (rainy - dry).mean() < 8 and (rainy - dry).std() < 6
    assert int(answer.headers["x-vderain-frame"]) >= 1
    still = httpx.get(f"{address}/api/cameras/0/still.png")
    assert "attachment" in still.headers["content-disposition"]
    assert cv2.imdecode(np.frombuffer(still.content, np.uint8), 1).shape == (360, 1280, 3)


def test_images_are_made_without_complaints(capfd):
    from vderain.live.preview import Preview

    preview = Preview()
    preview.put(LiveFrame(gray_frame(50, 0), arrived_s=0.0))
    assert preview.still_png(preview.pair)[1:4] == b"PNG"
    assert preview.stacked_jpeg(preview.pair, 320)[:2] == b"\xff\xd8"
    assert capfd.readouterr().err == ""  # OpenCV's, of options that a format does not have


def test_a_number_of_thousands_of_digits_names_no_camera(page, caplog):
    address, station = page()
    assert shown(station)
    for name in ("pair.jpg", "still.png"):
        answer = httpx.get(f"{address}/api/cameras/{'1' * 5000}/{name}")
        assert (answer.status_code, "Traceback" in caplog.text) == (404, False)


def test_a_still_is_made_once_for_all_who_ask_within_a_second(monkeypatch):
    from vderain.live import preview as module

    made = []
    encoded = module._encoded
    monkeypatch.setattr(module, "_encoded", lambda *args: made.append(args[0]) or encoded(*args))
    preview, frame = module.Preview(), gray_frame(50, 0)
    with ThreadPoolExecutor() as visitors:
        stills = []
        for _ in range(6):
            preview.put(LiveFrame(frame, arrived_s=0.0))
            stills.append(visitors.submit(preview.still_png, preview.pair))
        assert len({still.result() for still in stills}) == 1
    assert made == [".png"]
    monkeypatch.setattr(module, "_STILL_S", 0.0)
    preview.still_png(preview.pair)
    assert made == [".png", ".png"]


def test_a_newer_frame_is_waited_for(page, monkeypatch):
    monkeypatch.setattr("vderain.live.web.server._WAIT_S", 0.2)
    address, station = page()
    assert shown(station)
    first = int(httpx.get(f"{address}/api/cameras/0/pair.jpg").headers["x-vderain-frame"])
    later = httpx.get(f"{address}/api/cameras/0/pair.jpg?after={first}")
    assert int(later.headers["x-vderain-frame"]) > first
    assert until(lambda: station.sessions[0].ended, 20)

    def status():
        last = station.sessions[0].preview.pair.number
        return httpx.get(f"{address}/api/cameras/0/pair.jpg?after={last}").status_code

    assert until(lambda: status() == 204)


def test_status_metrics_and_health(page):
    address, station = page()
    assert shown(station)
    camera = httpx.get(f"{address}/api/cameras").json()["cameras"][0]
    assert (camera["name"], camera["size"], camera["tier"]) == ("gate", "640x360", "fast")
    text = httpx.get(f"{address}/metrics").text
    for name in (
        'vderain_source_up{camera="gate"} 1.0',
        'vderain_frames_total{camera="gate",stage="emitted"}',
        'vderain_latency_seconds_bucket{camera="gate",le="+Inf",stage="emit"}',
        'vderain_tier{camera="gate",tier="fast"} 1.0',
        'vderain_queue_depth{camera="gate",stage="network"}',
        'vderain_stage_busy_ratio{camera="gate",stage="network"}',
        'vderain_reconnects_total{camera="gate"} 0.0',
        'vderain_decode_errors_total{camera="gate"} 0.0',
    ):
        assert name in text
    assert httpx.get(f"{address}/healthz").text == "ok\n"
    assert httpx.get(f"{address}/readyz").status_code == 200


def test_memory_of_the_gpu_is_shown_only_where_an_engine_runs_on_one(page, monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda n: asked.append(n) or (6 << 30, 8 << 30))
    engine = SlowEngine()
    address, station = page(engine=engine)
    assert shown(station)
    assert "gpu_memory" not in httpx.get(f"{address}/metrics").text and not asked
    engine.open = lambda fmt: EngineSpec("cuda", "float16", "NVIDIA of the test", "fast")
    address, station = page(engine=engine)
    station._options = EngineOptions(device="cuda:1")
    assert shown(station)
    text = httpx.get(f"{address}/metrics").text
    assert "vderain_gpu_memory_bytes 2.147483648e+09" in text and asked == [1]

    def fails(number):
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fails)
    assert "gpu_memory" not in httpx.get(f"{address}/metrics").text


def test_it_is_not_ready_without_a_frame(page):
    address, _ = page(source="rtsp://127.0.0.1:9/none")
    answer = httpx.get(f"{address}/readyz")
    assert (answer.status_code, answer.text) == (503, "1 of 1 not ready\n")
    assert httpx.get(f"{address}/healthz").status_code == 200


def test_a_taken_port_is_reported_in_one_line(watch, capfd):
    station = watch("samples/rainy_road.mp4")
    first = PageServer(station, "127.0.0.1", 0, None)
    first.start()
    try:
        with pytest.raises(OptionError, match=f"port={first.port}: is in use by another"):
            PageServer(station, "127.0.0.1", first.port, None)
        assert "Errno" not in capfd.readouterr().err
    finally:
        first.stop()


def test_json_log_lines_hold_fields_and_no_password(capsys):
    import logging

    from vderain.live.logs import log_to_stderr

    logger = logging.getLogger("vderain")
    kept = logger.handlers, logger.propagate, logger.level
    try:
        log_to_stderr("json")
        logging.getLogger("vderain.live").warning(
            "%s is failed", f"rtsp://u:{SECRET}@h/x", extra={"camera": "gate", "state": "failed"}
        )
        line = json.loads(io.StringIO(capsys.readouterr().err).readline())
    finally:
        logger.handlers, logger.propagate = kept[:2]
        logger.setLevel(kept[2])
    assert line["message"] == "rtsp://***@h/x is failed"
    assert (line["level"], line["camera"], line["state"]) == ("warning", "gate", "failed")
