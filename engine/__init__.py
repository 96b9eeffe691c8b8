"""What both branches stand on: time, media, options, placement, weights, errors."""

from mouthpiece.engine.version import __version__ as __version__
