"""`python -m mouthpiece`: the command line."""

import sys

from mouthpiece.command_line import main

sys.exit(main())
