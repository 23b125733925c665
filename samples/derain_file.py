"""Take the rain out of a file: python samples/derain_file.py rainy.mp4 dry.mp4"""

import sys

import vderain

if len(sys.argv) != 3:
    sys.exit(__doc__)
report = vderain.derain_file(sys.argv[1], sys.argv[2], encode=vderain.EncodeOptions(overwrite=True))
print(
    f"{report.frames_out} frames at {report.frames_per_s:.1f} fps, limited by {report.limiting_stage}"
)
for loss in report.losses:
    print("not in the output:", loss)
