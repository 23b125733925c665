"""A process that records a camera until it is told to stop: python -m tests.live.peers.record URL FOLDER [REPORT]."""

import json
import signal
import sys
from pathlib import Path

from tests.live.fakes import SlowEngine
from vderain.live.report import station_report
from vderain.live.station import CameraPlan, Station


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    station = Station(
        [CameraPlan("gate", sys.argv[1], (sys.argv[2],))], open_engine_for=lambda rung: SlowEngine()
    )
    try:
        station.start()
        station.wait(60)
    finally:
        station.stop()
        for report in sys.argv[3:]:
            Path(report).write_text(json.dumps(station_report(station)))


main()
