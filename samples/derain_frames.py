"""Take the rain out of arrays, here of an image: python samples/derain_frames.py rainy.png dry.png"""

import sys

import cv2

import vderain

if len(sys.argv) != 3 or (image := cv2.imread(sys.argv[1])) is None:
    sys.exit(__doc__)
rainy = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
with vderain.Derainer() as derainer:
    dry = derainer(rainy)  # (H, W, 3) uint8 RGB in and out; call it for frame after frame
    print("engine:", derainer.spec_for(rainy))
cv2.imwrite(sys.argv[2], cv2.cvtColor(dry, cv2.COLOR_RGB2BGR))
