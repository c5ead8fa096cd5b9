"""The command line: arguments in, output and exit code out."""
