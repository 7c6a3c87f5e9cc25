"""Records in, tables and figures out. Imports neither torch nor any plug-in: results can be rendered anywhere."""
