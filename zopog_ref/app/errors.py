"""What a command says when it cannot do what was asked: one message, no traceback."""


class InputError(Exception):
    """The input cannot be used (exit code 2): says what was given, what was expected, what to do."""


class Interrupted(Exception):
    """Stopped by the user after saving (exit code 130)."""
