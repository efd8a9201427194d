"""`python -m tests.support.images`."""

import sys

from tests.support.images import main

raise SystemExit(main(sys.argv[1:]))
