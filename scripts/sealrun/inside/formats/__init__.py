"""Readers of model and data files, by format. They run inside a tool's environment and import none of Sealrun but each other.

Rules: a reader takes what it reads for hostile: every count and length is held against the file before memory is spent on it;
it yields what is wrong as text without a path of the host, and never raises for what a file holds.
"""
