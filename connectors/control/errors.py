"""What can go wrong in the control database, as the caller has to know it.

ControlError
├── Missing             there is no such thing, or not for this workspace
├── Taken               there is one already
├── Refused             a value makes no sense; the text says which and why
├── Full                there are too many of them for the moment
├── Denied              who are you?
├── Forbidden           known, but not allowed
└── ControlUnavailable  the database does not answer; worth trying again

The texts are sentences for the caller: they never hold a password, a key, a token or a channel's configuration.
"""


class ControlError(Exception):
    """Base of them all; its text is a sentence for the caller."""


class Missing(ControlError):
    """There is no such thing, or it belongs to somebody else: nobody is told which."""


class Taken(ControlError):
    """There is one of this name already."""


class Refused(ControlError):
    """A value makes no sense."""


class Full(ControlError):
    """There are too many of them for the moment; later there is room again."""


class Denied(ControlError):
    """Credentials are missing, wrong, expired or forged."""


class Forbidden(ControlError):
    """The caller is known and may not do this."""


class ControlUnavailable(ControlError):
    """The database does not answer, or not in time. Nothing was changed."""
