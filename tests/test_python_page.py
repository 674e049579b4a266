"""docs/python.md, as it stands: from top to bottom, in an empty folder with a few pairs."""

import math
import re
from pathlib import Path

import numpy as np

PAGE = (Path(__file__).parent.parent / "docs/python.md").read_text("utf-8")


def test_the_page_runs_and_says_what_it_prints(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pairs.en-fr.tsv").write_text(corpus.read_text())
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        capsys.readouterr()
        exec(code, names)
        told = re.findall(r"print\(.*\)  # ([\d(].*)\n", code)
        assert set(told) <= set(capsys.readouterr().out.splitlines())
    assert [record["step"] for record in names["records"]] == [1, 2]
    assert names["records"][-1]["dev_p@1"] == names["scores"]["dev_p@1"]
    first = names["records"][0]
    loss = sum(
        getattr(names["config"].objectives, term).weight * first[term] for term in names["terms"]
    )
    assert math.isclose(loss, first["loss"], rel_tol=1e-5)
    same = names["same"]
    assert math.isclose(names["alignment"](same, same), 2 * np.log(16), rel_tol=1e-6)
    assert names["found"].candidates == 100
