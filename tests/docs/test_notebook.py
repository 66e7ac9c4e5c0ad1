"""The notebook runs from its first cell to its last, with fewer steps, and its numbers are called what they are."""

import pytest
from pages import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    notebook = nbformat.read(ROOT / "notebooks" / "quickstart.ipynb", as_version=4)
    first = next(cell for cell in notebook.cells if "STEPS = " in cell.source)
    first.source = first.source.replace("STEPS = 300", "STEPS = 20")
    assert "STEPS = 20" in first.source
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "nats, exact" in printed
    assert "difference_se" in printed  # of compare: paired differences
    assert (tmp_path / "runs" / "flow" / "run.json").is_file()
