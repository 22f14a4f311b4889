"""Implementations of the ports: one module for each service, process or machine that Holdfast talks to.

Vendor names, protocols and errors stay in here; decisions about jobs belong in `lifecycle`, and settings in `client`.
"""
