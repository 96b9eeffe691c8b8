"""What both branches stand on: time, media, options, placement, weights, errors."""

__version__ = "0.1.0"
