"""The web page (`holdfast dashboard`): needs the extra `dashboard`, and nothing else imports it."""
