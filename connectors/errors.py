"""What can go wrong between us and the outside. The type says what to do next.

    ConnectorError
    |-- ConfigurationError      fix the project file or the environment, then run again
    |-- LockedError             another process is at work there: wait for it, or stop it
    |-- WarehouseError          the warehouse refused a statement, or is gone
    |-- LogError                an append-only file cannot be used
    |   `-- CorruptLogError     the file was damaged: restore it; names file and offset
    |-- RefusedRecordError      this one record cannot be sent: fix the row; the others go on
    |-- UnknownOutcomeError     bytes left, no answer came: never send again, reconcile
    |-- RetriableError          surely nothing happened: the next attempt or run takes it up
    |   `-- NotSentError        the vendor never got the request
    `-- FatalError              stop this destination for this run; nothing more is sent to it
        |-- CredentialsError    the vendor refuses the key
        |-- AddressError        the base URL is not this vendor's API
        `-- UnavailableError    too many failures in a row, or the rate limit stays shut

`str(error)` is safe to log: it never holds a key, a header or a person's data.
"""

from __future__ import annotations

from pathlib import Path


class ConnectorError(Exception):
    """Base of all errors of this package. `hint` says what the reader can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.hint})" if self.hint else str(self.args[0])


class ConfigurationError(ConnectorError):
    """The project file or the environment is wrong."""


class LockedError(ConnectorError):
    """Another process has the file or the directory open for writing."""


class WarehouseError(ConnectorError):
    """The warehouse refused a statement, or is gone."""


class LogError(ConnectorError):
    """An append-only file cannot be used."""


class CorruptLogError(LogError):
    """A frame that must be whole is not."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(
            f"{path} is damaged at byte {offset}", "restore this file from a backup or a replica"
        )
        self.path = path
        self.offset = offset


class RefusedRecordError(ConnectorError):
    """One record cannot be put into a request. `key` is the record's."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason


class UnknownOutcomeError(ConnectorError):
    """The request may or may not have been carried out."""


class RetriableError(ConnectorError):
    """Nothing happened; trying again is safe."""


class NotSentError(RetriableError):
    """The vendor never received the request."""


class FatalError(ConnectorError):
    """No further request to this destination makes sense in this run."""


class CredentialsError(FatalError):
    """The vendor refused the key."""


class AddressError(FatalError):
    """The base URL does not answer as the vendor's API."""


class UnavailableError(FatalError):
    """The destination fails again and again, or keeps us waiting."""
