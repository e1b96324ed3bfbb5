"""Empty: array-api-compat imports it."""
