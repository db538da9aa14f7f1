"""What other programs made comes in, and what lgsfm made goes into their databases.

`import_features`: hloc's features and matches -> an output folder, from which the later stages go on.
`fill_database`: keypoints and matches of an output folder -> a database of COLMAP that is there already.
"""

from .colmap import FillReport, fill_database
from .features import ImportReport, import_features

__all__ = ["FillReport", "ImportReport", "fill_database", "import_features"]
