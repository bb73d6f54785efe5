"""Programs that run inside a tool's sandboxed venv: standard library and that tool only, never imported by the runner."""
