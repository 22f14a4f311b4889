"""The commands of `holdfast`, one module each, with a function `run` that does the work and prints the result.

No command imports another; what two commands share lives in `operations`, `records` or `views`.
"""
