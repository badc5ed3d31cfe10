"""The command line, one file a command: parse, call, print. Data go to stdout, words to stderr."""
