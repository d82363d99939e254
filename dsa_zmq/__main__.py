"""``python -m dsa_zmq`` is the command ``dsa``."""

import sys

from dsa_zmq.cli.main import main

sys.exit(main())
