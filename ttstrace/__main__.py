"""``python -m ttstrace``: the command line, where the ``ttstrace`` script is not on the path."""

import sys

from ttstrace.cli import main

if __name__ == "__main__":
    sys.exit(main())
