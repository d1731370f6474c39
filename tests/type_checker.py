"""The run-time type checker of the test run: beartype, for which an int will do where a float is expected."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
