"""What both branches stand on: time, media, options, placement, weights, errors."""
