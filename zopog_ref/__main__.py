"""`python -m zopog_ref` is the command `zopog`, for where its script is not on the path."""

import sys

from zopog_ref.app.command_line import main

if __name__ == "__main__":
    sys.exit(main())
