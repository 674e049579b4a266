"""A hook of mkdocs: links of a page that leave docs/ lead to the file in the repository.

On GitHub and in an editor they are relative, as they should be; the site has only the pages.
"""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/lightxling/lightxling/blob/main/"


def on_page_markdown(markdown: str, *, page, config, files) -> str:
    """Called by mkdocs for every page."""
    return outside(markdown, Path(page.file.src_uri).parent)


def outside(markdown: str, folder: Path) -> str:
    """Replaces links that leave docs/.

    Args:
      folder: that of the page, below docs/.

    Raises:
      FileNotFoundError: the file is not in the repository.
    """

    def lead(match: re.Match) -> str:
        target = os.path.normpath(Path("docs", folder, match[1]))
        if target.startswith("docs/"):
            return match[0]
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{match[0]} in docs/{folder} leads to no file")
        return f"]({REPOSITORY}{target}{match[2] or ''})"

    return re.sub(r"\]\((\.\./[^)#\s]+)(#[^)]*)?\)", lead, markdown)
