"""Geometry of the working crop, and of the patch in which a mouth is painted."""

WORK_PX = 192  # side of the working crop, from which frames are rendered
FLOW_PX = 96  # side of the grid on which the flow is predicted
MOUTH_PATCH = (96, 160, 40, 152)  # top, bottom, left, right of the mouth patch, px of the working crop
