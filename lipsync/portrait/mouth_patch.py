"""The working crop and the part of it in which a mouth is painted."""

WORK_PX = 192  # crop that the painter sees
FLOW_PX = 96  # crop that the flow is predicted on
MOUTH_PATCH = (96, 160, 40, 152)  # top, bottom, left, right of the mouth patch in the working crop
