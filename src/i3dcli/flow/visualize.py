"""Flow as a picture: the hue is its direction, the colour its length."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def flow_picture(flow: NDArray[np.float32], bound: float) -> NDArray[np.uint8]:
    """A flow as an RGB picture (H,W,3) uint8: the hue is its direction, the colour's strength its length; white is still."""
    length, angle = cv2.cartToPolar(flow[0], flow[1], angleInDegrees=True)
    strength = np.clip(length / bound, 0, 1) * 255
    hsv = np.stack([angle / 2, strength, np.full_like(strength, 255)], axis=-1)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8)
