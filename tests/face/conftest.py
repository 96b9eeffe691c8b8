"""A photographed face, a drawn one and one too plain for any detector."""

import cv2
import numpy as np
import pytest
from skimage import data


@pytest.fixture(scope="session")
def photo():
    image = data.astronaut()
    image.flags.writeable = False
    return image


@pytest.fixture(scope="session")
def drawing():
    image = np.full((400, 400, 3), (180, 200, 230), np.uint8)
    cv2.ellipse(image, (200, 200), (95, 125), 0, 0, 360, (245, 205, 170), -1, cv2.LINE_AA)
    for x in (165, 235):
        cv2.ellipse(image, (x, 175), (18, 10), 0, 0, 360, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(image, (x, 175), 8, (40, 30, 20), -1, cv2.LINE_AA)
        cv2.ellipse(image, (x, 152), (22, 8), 0, 200, 340, (60, 40, 20), 4, cv2.LINE_AA)
    cv2.polylines(image, [np.array([(200, 180), (192, 220), (205, 222)])], False, (200, 150, 120), 3, cv2.LINE_AA)
    cv2.ellipse(image, (200, 260), (34, 12), 0, 0, 180, (190, 60, 60), -1, cv2.LINE_AA)
    cv2.ellipse(image, (200, 120), (100, 60), 0, 180, 360, (70, 45, 25), -1, cv2.LINE_AA)
    return image


@pytest.fixture(scope="session")
def plain_drawing():
    image = np.full((300, 400, 3), 235, np.uint8)
    cv2.fillPoly(image, [np.array([(150, 60), (90, 210), (210, 210)])], (90, 140, 90))
    cv2.circle(image, (150, 130), 14, (255, 255, 255), -1)
    cv2.circle(image, (150, 130), 6, (0, 0, 0), -1)
    return image
