"""Prints and exits at import, as a script that was packaged by mistake does."""

import sys

print("this provider is a script")
sys.exit(3)
