"""What a command imports: each of these takes as long as torch, and the default run needs none of them."""

import subprocess
import sys

import pytest

HEAVY = ("sklearn", "torchvision", "torch._dynamo", "pandas", "scipy.stats", "sympy")


def imported(folder, words, heavy):
    """Which of the heavy modules a command imports."""
    code = (
        "import sys; from gencli.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        f"print('HEAVY', *[name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("HEAVY")[2].split()


@pytest.mark.slow
def test_the_default_run_imports_nothing_heavy_that_it_does_not_need(tmp_path):
    words = ["train", "trainer.max_steps=2", "device=cpu", "trainer.eval_examples=10", "n=4", "run_dir=run"]
    assert imported(tmp_path, words, HEAVY) == []
    assert (
        imported(
            tmp_path, ["sample", "run=run", "n=4", "device=cpu"], (*HEAVY, "tensorboard", "torchdiffeq", "networkx")
        )
        == []
    )
