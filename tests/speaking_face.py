"""A photographed face whose mouth can be opened, for films in which somebody speaks."""

import cv2
import numpy as np

from mouthpiece.face.measure import CHIN, LIP_DOWN, LIP_LEFT, LIP_RIGHT, LIP_UP, FaceMeshDetector

SIDE_PX = 192


class SpeakingFace:
    """One face whose mouth can be opened. pixels: uint8 (192, 192, 3)."""

    def __init__(self, pixels):
        self.pixels = pixels
        with FaceMeshDetector(follow=False) as mesh:
            self._points = mesh.landmarks(pixels)

    def frame(self, opening):
        """The face with its lips parted by `opening` (0 to 1) times a tenth of the face."""
        p = self._points
        top, low, chin = p[LIP_UP, 1], p[LIP_DOWN, 1] + 0.5, p[CHIN, 1]
        half, middle = abs(p[LIP_RIGHT, 0] - p[LIP_LEFT, 0]) / 2, p[[LIP_LEFT, LIP_RIGHT], 0].mean()
        y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
        drop = 0.11 * (chin - p[10, 1]) * opening * np.exp(-(((x - middle) / half) ** 2))
        inside = top + (y - top) * (low - top) / (low - top + drop)
        below = np.maximum(low, y - drop * np.clip((chin + 12 - (y - drop)) / (chin + 12 - low), 0, 1))
        source = np.where(y <= top, y, np.where(y < low + drop, inside, below))
        return cv2.remap(self.pixels, x, source.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def load_speaking_face():
    """The Puppet of a photographed face."""
    from skimage import data

    from mouthpiece.face.crop import make_crop
    from mouthpiece.face.detect import find_faces_mtcnn

    photo = data.astronaut()
    return SpeakingFace(make_crop(find_faces_mtcnn(photo)[0].points, SIDE_PX).extract(photo))
