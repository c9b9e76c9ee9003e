"""The first day and the benchmark of ingest, on few rows."""

import json

import pandas as pd

from pipelines import benchmark_ingest, first_day


def test_the_first_day_ends_with_predictions_of_every_new_customer(tmp_path, capfd):
    assert first_day.main(["--quick", "--folder", str(tmp_path)]) == 0
    told = capfd.readouterr().out
    assert "accuracy on 1,000 new customers" in told
    new = pd.read_csv(tmp_path / "new-with-outcome.csv", dtype=str)
    predictions = pd.read_csv(tmp_path / "predictions.csv", dtype=str)
    assert list(predictions) == ["customer", "outcome"]
    assert predictions["customer"].tolist() == new["customer"].tolist()
    report = json.loads((tmp_path / "runs" / "mine" / "report.json").read_text())
    (line,) = [line for line in told.splitlines() if line.startswith('{"rows"')]
    assert report["status"] == "complete"
    right = (predictions["outcome"] == new["outcome"]).mean()
    assert json.loads(line)["accuracy"] == right
    assert right > new["outcome"].value_counts(normalize=True).max()


def test_ingest_is_set_beside_dask(tmp_path, capfd):
    out = tmp_path / "costs.json"
    words = ["--gigabytes", "0.001", "--part-rows", "5000"]
    words += ["--folder", str(tmp_path), "--out", str(out)]
    assert benchmark_ingest.main(words) == 0
    record, told = json.loads(out.read_text()), capfd.readouterr().out
    assert record["rows"] == 10_000
    assert len(record) == 4
    for name in record.keys() - {"rows", "gigabytes"}:
        assert f"| `{name}` | {record[name]['seconds']:.1f} |" in told
        assert 5e7 < record[name]["bytes"] < 4e9
    assert sorted(tmp_path.iterdir()) == [out]
