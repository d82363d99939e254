"""``python -m dsa_zmq.node`` is ``dsa node``."""

import sys

from dsa_zmq.cli.main import main

sys.exit(main(["node", *sys.argv[1:]]))
