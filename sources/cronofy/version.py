"""The version of this package. It stands in `runs`, and every new one reads all answers once."""

VERSION = "0.3.0"
