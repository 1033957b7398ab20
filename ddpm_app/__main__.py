"""python -m ddpm_app sample | train | push | evaluate | ablate | bench | models: see --help of each."""

import sys

from ddpm_app.commands import main

sys.exit(main())
