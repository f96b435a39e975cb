"""The version of this package; beside the tables it is in `runs`, and every new one reads all answers once."""

VERSION = "0.3.0"
