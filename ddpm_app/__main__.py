"""python -m ddpm_app COMMAND: see --help for the commands, and --help of each."""

import sys

from ddpm_app.commands import main

sys.exit(main())
