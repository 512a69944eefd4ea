"""`python -m planetlib`, which torchrun starts."""

import sys

from planetlib.cli import main

sys.exit(main())
