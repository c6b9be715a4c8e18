"""`i3d predict` in this process, and what is left of a command that fails."""

from click.testing import CliRunner

from i3dcli.cli.main import main


def predicting(checkpoints):
    """A function that runs `i3d predict` on the CPU with checkpoints of both streams, or of those in `weights`."""

    def run(*arguments, weights=("rgb", "flow")):
        options = [part for stream in weights for part in (f"--{stream}", str(checkpoints[stream]))]
        return CliRunner().invoke(main, ["predict", *options, "--device", "cpu", *map(str, arguments)], catch_exceptions=False)

    return run


def one_line(result, exit_code, *texts):
    """It failed with nothing but one line of error, and these texts in it."""
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert all(text in result.stderr for text in texts)
