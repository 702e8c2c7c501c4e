"""`python -m lbspeaker` is the command `lbspeaker`."""

from lbspeaker.cli import main

if __name__ == "__main__":
    main()
