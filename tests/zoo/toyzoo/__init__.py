"""A user's package, for the tests of the command line: classes that are read, and some that are built."""
