"""The commands, one module each. Settings are read here and nowhere else.

Modules import what is heavy (gRPC, rich, psycopg) inside the functions that need it, so that no command waits for what
another one needs.
"""
