"""What is in an output folder, whether it is what was written, and what may go: ``lgsfm cache``.

Nothing here makes anything again: what is removed, the next run does. `verify` changes nothing; `repair` removes only
what is damaged; `prune` removes what no longer serves the last run.
"""

from .actions import Action, prune, repair
from .findings import Finding, verify

__all__ = ["Action", "Finding", "prune", "repair", "verify"]
