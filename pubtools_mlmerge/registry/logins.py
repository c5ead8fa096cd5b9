"""Which logins were refused: none is sent twice, as registries lock accounts for that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from attrs import evolve

from pubtools_mlmerge.errors import Unauthorized

_UNAUTHORIZED = 401
_NOT_FOUND = 404


class _Answer(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def is_success(self) -> bool: ...


AnswerT = TypeVar("AnswerT", bound=_Answer)


class Login:
    """One login at one place, for all threads and clients that use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refusal: Unauthorized | None = None
        self._is_accepted = False

    def accept(self) -> None:
        """Remember that it is right: a refusal from now on is about the repository."""
        self._is_accepted = True

    def attempt(
        self,
        subject: str,
        send: Callable[[], AnswerT],
        refuse: Callable[[AnswerT], Unauthorized],
    ) -> AnswerT:
        """Send the login, from one thread at a time until it is known whether it is right.

        Once it was refused it is not sent again: the error of then is raised, for `subject`.
        """
        if self._is_accepted:
            return send()
        with self._lock:
            if self._refusal is not None:
                raise evolve(self._refusal, reference=subject) from self._refusal.__cause__
            if not self._is_accepted:
                answer = send()
                self._is_accepted = answer.is_success or answer.status == _NOT_FOUND
                if answer.status == _UNAUTHORIZED:
                    self._refusal = refuse(answer)
                    raise self._refusal
                return answer
        return send()


class Logins:
    """The logins of one run, by the place that they are sent to; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logins: dict[tuple[str, str], Login] = {}

    def get(self, place: str, secret: str) -> Login:
        """Return what is known of a login at a place."""
        with self._lock:
            return self._logins.setdefault((place, secret), Login())
