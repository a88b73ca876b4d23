"""What ``./inv`` runs: ``python REPOSITORY/console TASK…``."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the rooms, not this room's own modules

from console.program import main  # noqa: E402

main()
