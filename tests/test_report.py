"""The page: complete, self-contained, and safe to open."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.figures.report import CAVEAT, ahead, page
from onnxexplain.figures.view import View
from onnxexplain.photograph.image import prepare
from onnxexplain.photograph.recipe import recipe_for
from tests.builders import net, weights
from tests.pictures import LABELS, classifier, photograph


class Reader(HTMLParser):
    """Collects tags with their attributes, and checks that they close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "input", "line", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def made(method: str = "score-propagation", targets="all", truth=1, **options):
    model = ox.load(classifier(labels=LABELS))
    picture = prepare(photograph(), recipe_for(model, model.inputs["x"], None, {}))
    e = ox.explain(model, picture.values, method, targets=targets, **options)
    view = View(e, 0, picture, truth)
    ahead(view)
    return view, page(view)


def test_it_walks_from_the_scores_to_the_pixels():
    view, text = made()
    read = Reader(text)
    heads = re.findall(r"<h2>(.*?)</h2>", text)
    assert [h.split()[-1] for h in heads] == [
        "scores",
        "ledger",
        "layer",
        "pooling",
        "pixels",
        "pixels",
        "picture",
        "from",
    ]
    assert text.index("<code>r</code>") < text.index("<code>a</code>")
    assert CAVEAT in read.text
    assert view.e.model.sha256 in read.text


def test_it_reaches_for_nothing_outside():
    _, text = made()
    assert not re.search(r"https?://", text)
    assert "@import" not in text
    for tag, attributes in Reader(text).tags:
        assert tag not in ("link", "iframe", "object")
        for key in ("src", "href"):
            assert (attributes.get(key) or "data:").startswith("data:")


def test_every_picture_has_words_for_those_who_do_not_see_it():
    _, text = made()
    for tag, attributes in Reader(text).tags:
        if tag == "img":
            assert "alt" in attributes
        if tag in ("svg", "canvas"):
            assert attributes["aria-label"]


def test_labels_are_text_and_not_markup():
    _, text = made()
    assert "<b>bird</b>" not in text
    assert "&lt;b&gt;bird&lt;/b&gt;" in text


def test_the_ledger_is_that_of_the_explanation():
    view, text = made(targets=None)
    row = re.search(r'<td class="total">(.*?)</td><td>(.*?)</td><td>(.*?)</td>', text)
    score, shares, constant = (float(c.replace("\u2212", "-")) for c in row.groups())
    assert score == pytest.approx(shares + constant, abs=1e-4)
    assert constant == pytest.approx(float(view.e.constant[0]), rel=1e-4)


@pytest.mark.parametrize("method", ["gradient", "grad-cam", "input-x-gradient"])
def test_what_does_not_apply_is_left_out(method):
    _, text = made(method, targets=None)
    Reader(text)
    assert ("The ledger" in text) == (method == "input-x-gradient")
    assert ("Layer by layer" in text) == (method == "input-x-gradient")
    assert "Marked on the picture" in text


def test_tables_have_a_page_too():
    table = net(
        "(float[N,5] x) => (float[N,2] y) { y = Gemm(x, w, b) }", **weights(1, w=(5, 2), b=(2,))
    )
    text = page(View(ox.explain(table, np.ones((1, 5), np.float32))))
    Reader(text)
    assert "At the input" in text
    assert "<canvas" not in text
