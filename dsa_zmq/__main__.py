"""``python -m dsa_zmq`` is the command ``dsa``. Nothing is imported before Ctrl-C is expected."""

import sys


def main() -> int:
    """Run the command line of this process; its exit status."""
    try:
        from dsa_zmq.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
