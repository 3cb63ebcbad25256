"""``python -m ctnet`` is the command ``ctnet``."""

from ctnet.cli import main

if __name__ == "__main__":
    main()
