"""Maximum likelihood refuses what would not make a step in minutes."""

import pytest

from gencli.cli.main import main

SHORT = "data.flatten=true model.hidden=[8] trainer.max_steps=1 trainer.eval_examples=10 estimator=null n=0 device=cpu"


@pytest.mark.parametrize(("transforms", "code"), [(32, 2), (1, 0)])
def test_a_density_of_thousands_of_passes_is_refused_before_anything_is_written(transforms, code, tmp_path, capsys):
    words = [*SHORT.split(), "run_dir=run", "logger=none"]
    assert main(["train", "model=iaf", "data=digits", f"model.transforms={transforms}", *words]) == code
    assert (tmp_path / "run").exists() == (code == 0)
    said = capsys.readouterr().err
    assert ("log p of this model takes 2,048 passes" in said) == (code == 2)
    assert ("model=maf" in said) == (code == 2)
