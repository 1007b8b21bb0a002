"""`python -m appstatsd` is `appstatsd`."""

from __future__ import annotations

import sys

from appstatsd.cli.main import main

sys.exit(main())
