from __future__ import annotations

from pathlib import Path

import torch

from engine.files import write_json
from engine.provenance import collect, fingerprint
from engine.registry import ROOT


def test_provenance_says_how_a_run_came_about(tmp_path: Path):
    found = collect(
        seconds=1.5,
        device=torch.device("cpu"),
        plugin=ROOT / "methods" / "random.py",
        work=7.0,
        unit="flops",
        resumed=False,
    )
    assert found.seconds == 1.5
    assert found.threads == torch.get_num_threads()
    assert 10 < found.peak_memory_mb < 1e6
    assert found.versions["torch"] == torch.__version__
    assert found.device.startswith("cpu")
    write_json(tmp_path / "provenance.json", found.model_dump(mode="json"))


def test_the_fingerprint_ignores_comments_and_docstrings_only(tmp_path: Path):
    file = tmp_path / "plugin.py"
    file.write_text('"""Text."""\nimport os\n\ndef f(x):\n    """Doc."""\n    return x + 1  # why\n')
    before = fingerprint(file)
    file.write_text('"""Other."""\nimport os\n\n\ndef f(x):\n    """Another."""\n    return (x + 1)\n')
    assert fingerprint(file) == before
    file.write_text('"""Other."""\nimport os\n\n\ndef f(x):\n    """Another."""\n    return x + 2\n')
    assert fingerprint(file) != before


def test_the_fingerprint_follows_first_party_imports(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("engine.provenance.ROOT", tmp_path)
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "blocks.py").write_text("from encoders.deep import x\n")
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "deep.py").write_text("import methods.blocks\nx = 1\n")
    plugin = tmp_path / "mine.py"
    plugin.write_text("import torch\nfrom methods.blocks import x\n")
    before = fingerprint(plugin)
    (tmp_path / "encoders" / "deep.py").write_text("import methods.blocks\nx = 2\n")
    assert fingerprint(plugin) != before
