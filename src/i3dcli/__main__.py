"""`python -m i3dcli` is `i3d`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="i3d")
