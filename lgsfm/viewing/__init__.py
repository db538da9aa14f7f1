"""The models of a finished run in the browser: points, cameras, photos, and what each photo was matched with.

`Contents` reads what is shown, and knows nothing of browsers; `lgsfm.viewing.server` shows it.
"""

from .contents import Contents, Neighbour

__all__ = ["Contents", "Neighbour"]
