"""What both branches stand on: time, media, options, placement, weights, errors."""

__version__ = "0.2.0"
