"""A camera and a receiver: GStreamer's RTSP server, run by the system's Python as a process of its own.

usage: rtsp_server.py PORT [--codec h264|h265] [--audio none|pcmu|aac] [--pattern ball] [--size 640x360] [--rate 25]
       [--protocols tcp|udp|all] [--user NAME --password WORD] [--record FILE]

It plays at /camera, and takes RECORD at /record into FILE (Matroska). Prints "ready" when it serves.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402  # only once the versions are chosen

ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=1500 key-int-max={rate}"
    " ! video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=1",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast bitrate=1500 key-int-max={rate}"
    " ! rtph265pay name=pay0 pt=96 config-interval=1",
}
SOUNDS = {
    "none": "",
    "pcmu": "audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=8000,channels=1 ! mulawenc"
    " ! rtppcmupay name=pay1 pt=0",
    "aac": "audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=48000,channels=1 ! avenc_aac"
    " ! aacparse ! rtpmp4apay name=pay1 pt=97",
}
RECEIVERS = {
    "none": "",
    "pcmu": "rtppcmudepay name=depay1 ! mux.",
    "aac": "rtpmp4gdepay name=depay1 ! aacparse ! mux.",
}
PROTOCOLS = {
    "tcp": GstRtsp.RTSPLowerTrans.TCP,
    "udp": GstRtsp.RTSPLowerTrans.UDP,
    "all": GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP,
}


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--audio", default="none")
    parser.add_argument("--pattern", default="ball")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--rate", type=int, default=25)
    parser.add_argument("--protocols", default="all")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--record")
    return parser.parse_args()


def camera(wanted):
    width, height = wanted.size.split("x")
    video = (
        f"videotestsrc is-live=true pattern={wanted.pattern} ! video/x-raw,format=I420,"
        f"width={width},height={height},framerate={wanted.rate}/1 ! "
    )
    launch = video + ENCODERS[wanted.codec].format(rate=wanted.rate) + " " + SOUNDS[wanted.audio]
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {launch} )")
    factory.set_shared(True)
    factory.set_protocols(PROTOCOLS[wanted.protocols])
    return factory


def recorder(path, audio):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( rtph264depay name=depay0 ! h264parse ! matroskamux name=mux streamable=true"
        f" ! filesink location={path} buffer-mode=unbuffered {RECEIVERS[audio]} )"
    )
    factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
    factory.set_latency(200)
    return factory


def guard(server, wanted, factory):
    """Only the named user may look and play."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(wanted.user, wanted.password), token)
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)


def main():
    Gst.init(None)
    wanted = options()
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(wanted.port)
    factory = camera(wanted)
    if wanted.user:
        guard(server, wanted, factory)
    mounts = server.get_mount_points()
    mounts.add_factory("/camera", factory)
    if wanted.record:
        mounts.add_factory("/record", recorder(wanted.record, wanted.audio))
    if server.attach(None) == 0:
        raise SystemExit(f"port {wanted.port} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


main()
