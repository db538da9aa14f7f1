"""Networks in plain torch, one file each: no files, no COLMAP, no weights of their own."""
