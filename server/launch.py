"""Starts the server on a machine that has nothing but Python: `python3 server/launch.py`.

The rest lies in `launcher`, since this file must be read by each Python there is, also by one that
is too old.
"""

import os
import sys

if sys.version_info < (3, 11):
    version = ".".join(str(each) for each in sys.version_info[:3])
    sys.stderr.write(f"packlore: needs Python 3.11 or later, and this is {version}: ")
    sys.stderr.write(f"{sys.executable}\n")
    sys.exit(1)

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # also with PYTHONSAFEPATH
    wanted, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # not into the skill's folder
    from launcher.start import main

    sys.dont_write_bytecode = wanted
    sys.exit(main())
