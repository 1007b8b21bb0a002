"""Telling others that workspaces were used."""
