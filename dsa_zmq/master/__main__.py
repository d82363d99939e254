"""``python -m dsa_zmq.master`` is ``dsa master``."""

import sys

from dsa_zmq.cli.main import main

sys.exit(main(["master", *sys.argv[1:]]))
