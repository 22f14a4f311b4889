"""Fakes of the ports for tests, Holdfast's own and its users': virtual time, and the strict rules of SQS and R2.

They keep the ports' contracts and fail only as the real services do; other faults are injected by wrapping them.
"""
