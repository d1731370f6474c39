"""The one exception that is the user's to mend."""


class UserError(Exception):
    """Bad argument, config or input.

    The message is one line: it names the file or field, says what was expected and what to do. Command-line modules
    print it without a traceback and exit with status 2.
    """
