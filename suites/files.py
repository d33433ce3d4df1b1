"""Write files whole or not at all: whoever reads one, or finds it after a kill, finds the old one or the new one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside its place, and move it there once all of it is written.

    Args:
        path: of the file; its folder exists.
        content: text is written as UTF-8.

    Raises:
        OSError: if there is no room or no right to write; a file that was there before is then as it was.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
