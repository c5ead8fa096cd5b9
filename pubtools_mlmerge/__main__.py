"""Run a command: ``python -m pubtools_mlmerge merge ...``."""

from pubtools_mlmerge.cli.parsers import main

if __name__ == "__main__":
    main()
