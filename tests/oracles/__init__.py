"""The same numbers from other frameworks, run only where those are installed."""
