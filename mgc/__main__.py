"""`python -m mgc`: the same as `mgc`."""

from mgc.cli import main

if __name__ == "__main__":
    main()
