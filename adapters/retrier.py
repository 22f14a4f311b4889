"""Retrier: the one owner of all retries of cloud calls. No client or library below it repeats a request by itself.

There is one policy per kind of call. Only `RetryableError` is retried, because calling again changes no other error.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from attrs import field, frozen
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_result,
    stop_after_attempt,
    wait_random_exponential,
)

from adapters.retry_listeners import RetryListeners
from lifecycle.errors import RetryableError
from lifecycle.ports.clock import Clock
from lifecycle.structured_log import StructuredLogger

T = TypeVar("T")
P = ParamSpec("P")

log = StructuredLogger("holdfast.retrying")


class ExhaustedError(RetryableError):
    """Every attempt at one part of a call failed. Repeating the whole call would send again what has arrived."""


@frozen(kw_only=True)
class RetryPolicy:
    """Number of attempts for a kind of call, and the pauses between them: random, with a bound that doubles.

    Attributes:
        attempts: Attempts in all, the first included.
        first_s: Upper bound of the first pause, in seconds.
        longest_s: Upper bound of every pause, in seconds.
        is_part: The call is a part of another that is retried as a whole, which is given up with this part.
    """

    attempts: int
    first_s: float = 0.0
    longest_s: float = 0.0
    is_part: bool = False


# A heartbeat waits for a read: with time-outs of 8 s, all attempts take less than 40 s.
READ: Final = RetryPolicy(attempts=4, first_s=0.5, longest_s=4)
WRITE: Final = RetryPolicy(attempts=5, first_s=1.0, longest_s=8)  # R2 accepts one write per second to a key
TRANSFER: Final = RetryPolicy(attempts=3, first_s=1.0, longest_s=8)  # whole objects; PART repeats their parts
PART: Final = RetryPolicy(attempts=3, first_s=1.0, longest_s=8, is_part=True)
HEARTBEAT: Final = RetryPolicy(attempts=2, first_s=0.2, longest_s=0.2)  # the next heartbeat is the better retry
RECEIVE: Final = RetryPolicy(attempts=2, first_s=0.5, longest_s=0.5)  # the worker asks again after checking signals
SEND: Final = RetryPolicy(attempts=6, first_s=1.0, longest_s=15)
METADATA: Final = RetryPolicy(attempts=3, first_s=0.2, longest_s=1)
ONCE: Final = RetryPolicy(attempts=1)  # the caller finds out if it took effect, or a second call would be refused


@frozen
class Retrier:
    """Makes calls of one service until they succeed or the policy is exhausted.

    Attributes:
        service: Name of the service, for metrics: `queue`, `store` or `node`.
        clock: Used for the pauses.
        listeners: Notified of each retry.
    """

    service: str
    clock: Clock
    listeners: RetryListeners = field(factory=RetryListeners)

    def __call__(
        self,
        policy: RetryPolicy,
        name: str,
        call: Callable[..., T],
        *args: Any,
        retry_if: Callable[[T], bool] | None = None,
        **kwargs: Any,
    ) -> T:
        """Make *call* as often as *policy* allows; the last result or error is the outcome.

        Args:
            policy: Number of attempts, and pauses.
            name: Method and key, for the log; the first word is the method.
            call: The method to call; safe to repeat.
            args: Its positional arguments.
            retry_if: Returns True for a result that is not yet a success.
            kwargs: Its keyword arguments.

        Raises:
            ExhaustedError: The last attempt at a part of a call failed with a `RetryableError`.
        """
        condition: Any = retry_if_exception(_is_worth_repeating)
        if retry_if is not None:
            condition |= retry_if_result(retry_if)
        retrying = Retrying(
            sleep=self.clock.sleep,
            stop=stop_after_attempt(policy.attempts),
            wait=wait_random_exponential(multiplier=policy.first_s, max=policy.longest_s),
            retry=condition,
            before_sleep=lambda state: self._report(policy, name, state),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
        )
        try:
            return retrying(call, *args, **kwargs)
        except RetryableError as error:
            if policy.is_part and not isinstance(error, ExhaustedError):
                raise ExhaustedError(str(error)) from error
            raise

    def _report(self, policy: RetryPolicy, name: str, state: RetryCallState) -> None:
        outcome = state.outcome
        error = outcome.exception() if outcome is not None and outcome.failed else None
        self.listeners.notify(f"{self.service} {name.partition(' ')[0]}", error)
        log.warning(
            "call.retried",
            call=name,
            attempt=state.attempt_number,
            attempts=policy.attempts,
            error=str(error or "some messages were not accepted"),
            pause_s=round(state.upcoming_sleep, 1),
        )


def _is_worth_repeating(error: BaseException) -> bool:
    return isinstance(error, RetryableError) and not isinstance(error, ExhaustedError)


class HasRetrier(Protocol):
    """An object whose methods can be `retried`."""

    @property
    def retry(self) -> Retrier:
        """The retrier of its calls."""


Owner = TypeVar("Owner", bound=HasRetrier)


def retried(
    policy: RetryPolicy,
) -> Callable[[Callable[Concatenate[Owner, P], T]], Callable[Concatenate[Owner, P], T]]:
    """Decorate a method that makes one request, so that its object's retrier makes the call."""

    def decorate(method: Callable[Concatenate[Owner, P], T]) -> Callable[Concatenate[Owner, P], T]:
        name = method.__name__.strip("_").replace("_", "-")

        @wraps(method)
        def call(self: Owner, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return self.retry(policy, name, partial(method, self, *args, **kwargs))

        return call

    return decorate
