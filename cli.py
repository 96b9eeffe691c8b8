"""Launcher: `python cli.py ...` does what the console script `mouthpiece` does."""

import sys

from mouthpiece.command_line import main

if __name__ == "__main__":
    sys.exit(main())
