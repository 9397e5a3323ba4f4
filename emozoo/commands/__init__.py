"""The commands of ``emozoo``: their options, and calls of the package. Heavy imports are inside the commands."""
