import csv

from classifiers import fusion_distill_table


def results(name):
    accuracy = {"jpeg": 40.0, "noise": 60.0, "blur": 50.0}.get(name, 20.0)
    degradations = ("jpeg", "blur", "noise")
    return {
        "mean": {"accuracy/clean": accuracy + 1}
        | {f"accuracy/{degradation}": accuracy for degradation in degradations},
        "images": [
            {"name": degradation, "level": float(level), "top1": accuracy}
            for degradation in degradations
            for level in (1, 2)
        ],
    }


def test_table_has_the_rows_and_columns_of_the_paper(tmp_path):
    table, curves = fusion_distill_table.collect(results, ("noise", "blur", "jpeg"))
    assert table[0] == ["Approach", "JPEG", "Blur", "AWGN", "mean", "clean"]
    rows = {title: values for title, *values in table[1:]}
    assert rows["Base separate (oracle)"] == [40, 50, 60, 50, 51]
    assert rows["FusionDistill"] == [20, 20, 20, 20, 21]
    assert len(rows) == 10
    assert curves["noise"]["Base separate (oracle)"] == [(1.0, 60.0), (2.0, 60.0)]
    page = fusion_distill_table.write(table, curves, tmp_path)
    assert "<th>FusionDistill</th><td>20.0</td>" in page.read_text()
    lines = (tmp_path / "table.txt").read_text().splitlines()
    assert lines[2].split()[2:] == ["(oracle)", "40.0", "50.0", "60.0", "50.0", "51.0"]
    assert len({len(line) for line in lines}) == 1
    with open(tmp_path / "table.csv") as file:
        assert next(iter(csv.reader(file))) == table[0]
    assert (tmp_path / "curves.png").stat().st_size > 10000


def test_levels_drawn_at_random_make_a_table_without_curves(tmp_path):
    def drawn(name):
        found = results(name)
        images = [{"name": n, "level": "nan", "top1": 20.0} for n in ("jpeg", "blur", "noise")]
        return found | {"images": images}

    table, curves = fusion_distill_table.collect(drawn, ("noise", "blur", "jpeg"))
    assert curves == {}
    page = fusion_distill_table.write(table, curves, tmp_path).read_text()
    assert "<th>FusionDistill</th><td>20.0</td>" in page
    assert "Levels were drawn for each image" in page
    assert "curves.png" not in page
    assert not (tmp_path / "curves.png").exists()
