"""Fakes that keep to the ports' laws: for unit tests, and shipped for users' own."""
