"""``python -m lgsfm`` is ``lgsfm``."""

from .cli import main

raise SystemExit(main())
