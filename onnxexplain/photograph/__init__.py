"""From a photograph to what a model takes, and its maps back onto the photograph."""
