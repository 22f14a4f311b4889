"""The rim: one module for each service, process or machine that the core talks to through its ports."""
