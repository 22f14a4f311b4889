"""Symbolic links: their text in a checkpoint, and whether they stay inside a tree."""

import os
import posixpath
from collections.abc import Collection, Sequence
from pathlib import Path


def portable_target(target: str, path: str, roots: Sequence[tuple[Path, str]]) -> str:
    """Return the text of a link as a checkpoint keeps it.

    An absolute target inside the job's directory becomes relative, because the directory has another name on another
    node. Any other text is kept as it is.

    Args:
        target: Text of the link.
        path: Path of the link in the job's directory.
        roots: Directories, and the path that each has in the job's directory.
    """
    if not target.startswith("/"):
        return target
    for root, inside in roots:
        for prefix in {str(root), os.path.realpath(root)}:
            if target == prefix or target.startswith(f"{prefix}/"):
                within = posixpath.join(inside, target[len(prefix) :].lstrip("/"))
                if ".." in within.split("/"):  # it cannot be shortened: what precedes `..` may be a link
                    return "../" * path.count("/") + within
                return posixpath.relpath(within or ".", posixpath.dirname(path))
    return target


def resolved_inside(path: str, target: str, areas: Collection[str]) -> str | None:
    """Return the path that a link leads to if it stays in one of the *areas*; None otherwise.

    `..` is allowed only at the beginning of the target. There it leaves real directories; behind another name, it may
    leave the target of another link.

    Args:
        path: Path of the link.
        target: Its text.
        areas: First parts of the paths that belong to the tree.
    """
    at = path.split("/")[:-1]
    parts = [part for part in target.split("/") if part not in {"", "."}]
    while parts and parts[0] == "..":
        if not at:
            return None
        at.pop()
        parts.pop(0)
    resolved = [*at, *parts]
    if target.startswith("/") or ".." in parts or not resolved or resolved[0] not in areas:
        return None
    return "/".join(resolved)
