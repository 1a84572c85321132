import subprocess
import sys

import pytest

from napari_all_detect.shielding import shielded

ASKING = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"


def ask() -> str:
    """Start a process that says whether it is shielded."""
    return subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no masks")
def test_what_is_started_is_shielded_and_nothing_else() -> None:
    assert (shielded(ask), ask()) == ("True", "False")


def test_an_error_of_the_start_comes_through() -> None:
    def fail() -> None:
        raise OSError("no more processes")

    with pytest.raises(OSError, match="no more processes"):
        shielded(fail)
