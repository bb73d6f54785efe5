"""Readers of what tools write: raw output to values, one module per tool; anything unexpected is a ToolFailed."""
