"""A boto3 client whose requests are retried: for s3transfer, which makes several requests for one call."""

from collections.abc import Callable
from typing import Any

from attrs import frozen

from adapters.aws.error_mapping import Service, mapped_errors
from adapters.retrier import PART, Retrier


@frozen
class RetriedClient:
    """Stands in for *client*. Vendor errors of its requests are mapped to Holdfast's.

    Attributes:
        client: The client.
        retry: Retries each request.
        operation: Operation and its key, for messages.
        service: The service whose settings messages name.
    """

    client: Any
    retry: Retrier
    operation: str
    service: Service

    def __getattr__(self, name: str) -> Any:
        """Return the client's attribute; a method that sends a request, with retries."""
        attribute = getattr(self.client, name)
        if name not in self.client.meta.method_to_api_mapping:
            return attribute
        return lambda **arguments: self.retry(PART, self.operation, self._request, attribute, **arguments)

    def _request(self, send: Callable[..., Any], **arguments: Any) -> Any:
        with mapped_errors(self.operation, self.service):
            body = arguments.get("Body")
            if body is not None:
                body.seek(0)  # an earlier attempt has read it
            return send(**arguments)
