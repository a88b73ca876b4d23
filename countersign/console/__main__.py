"""What ``./inv`` runs: ``python REPOSITORY/console TASK…``."""

import atexit
import gc
import sys
from pathlib import Path

# A run loads thousands of objects that live until its end. Looking through them again and again, and once more at
# exit, costs 30 ms of signing's 350.
gc.set_threshold(100_000)
atexit.register(gc.freeze)

sys.path[0] = str(Path(__file__).resolve().parents[2])  # the rooms, not this room's own modules

from countersign.console.program import main  # noqa: E402

main()
