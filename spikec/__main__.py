"""`python -m spikec` is `spikec`."""

import sys

from .cli import main

sys.exit(main())
