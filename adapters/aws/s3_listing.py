"""Parse pages of a ListObjectsV2 listing: a thousand keys in milliseconds, where botocore's parser takes 100 ms.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import unquote_plus

from attrs import frozen
from botocore.exceptions import HTTPClientError


@frozen
class ListingRow:
    """An object as listed: its key, size in bytes, ETag (quotes included) and time of writing."""

    key: str
    size: int
    etag: str
    written: datetime


def parse_page(body: bytes) -> tuple[Sequence[ListingRow], str | None]:
    """Parse a page that was requested with `encoding-type=url`.

    Returns:
        The objects, and the token of the next page; None for the token if the page says that it is the last. A page
        that says neither is an error, because a truncated page would otherwise pass for the last.

    Raises:
        HTTPClientError: The page is malformed or truncated.
    """
    try:
        root = ET.fromstring(body)  # noqa: S314 - from the store that we sign for; no entities are expanded
        fields = {_tag(each): each.text for each in root}
        is_last = {"true": False, "false": True}[fields["IsTruncated"] or ""]
        rows = [_row(each) for each in root if _tag(each) == "Contents"]
        next_token = None if is_last else fields["NextContinuationToken"]
    except (ET.ParseError, KeyError, ValueError) as error:
        raise HTTPClientError(error=f"malformed listing: {error!r}") from error
    if not is_last and not next_token:
        raise HTTPClientError(error="the listing continues but names no next page")
    return rows, next_token


def _row(contents: ET.Element) -> ListingRow:
    fields = {_tag(each): each.text or "" for each in contents}
    written = datetime.fromisoformat(fields["LastModified"])
    return ListingRow(unquote_plus(fields["Key"]), int(fields["Size"]), fields["ETag"], written)


def _tag(element: ET.Element) -> str:
    """Return the element's name without its namespace, which some stores omit."""
    return element.tag.rpartition("}")[2]
