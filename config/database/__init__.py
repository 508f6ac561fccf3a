"""Django's PostgreSQL backend with a client-side deadline and the embedded server behind it.

`ENGINE` is ``config.database``; Django finds the backend in `base`.
"""
