"""The README says of how many cases the derivative is checked, and why of the others it is not."""

from pathlib import Path

from tests.conformance.counts import counts, table

README = Path(__file__).parents[2] / "README.md"


def test_readme_has_the_table():
    assert table() in README.read_text(encoding="utf-8")


def test_every_case_is_accounted_for():
    found = counts()
    assert found[""] > 1100
    assert all(len(why.split()) > 2 for why in found if why)
