"""`python -m appstatsd`: the same as the command `appstatsd`."""

import sys

from appstatsd.cli.main import main

sys.exit(main())
