"""The SaladCloud platform: a node that can ask its metadata service for another machine.

The compatibility with Salad's own job format is not here but in `lifecycle.attempt.salad_demo`.
"""
