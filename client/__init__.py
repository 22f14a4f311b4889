"""The front: the command line, the composition root, the operator's tools."""
