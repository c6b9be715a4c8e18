"""The command `i3d`: parse → one call → print. Only this room knows click."""
