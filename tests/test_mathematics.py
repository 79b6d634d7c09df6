"""docs/site/mathematics.py: what of a page is set as mathematics, and what is not."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

SITE = Path(__file__).parent.parent / "docs" / "site"


def of_the_site(name: str) -> ModuleType:
    """A file of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("p_ij = softmax_j(x_ij)", "p<sub>ij</sub> = softmax<sub>j</sub>(x<sub>ij</sub>)"),
        ("Σ_jα_ijs_ij", "Σ<sub>j</sub>α<sub>ij</sub>s<sub>ij</sub>"),
        ("α_min, L_zF", "α<sub>min</sub>, L<sub>z</sub>F"),
        ("Σ_{j≠t}p_j²", "Σ<sub>j≠t</sub>p<sub>j</sub>²"),
        ("p_{i,t_i}", "p<sub>i,t<sub>i</sub></sub>"),
        ("s^k, e^{x_ij}, 10^-5", "s<sup>k</sup>, e<sup>x<sub>ij</sub></sup>, 10<sup>-5</sup>"),
        ("‖x‖^2", "‖x‖<sup>2</sup>"),
        ("ε^−3.98, e^-2.", "ε<sup>−3.98</sup>, e<sup>-2</sup>."),
        ("p_i1 = d_sr, ∫_{−μ}^{μ}", "p<sub>i1</sub> = d<sub>sr</sub>, ∫<sub>−μ</sub><sup>μ</sup>"),
        ("sm_80, g_1", "sm_80, g<sub>1</sub>"),
        ("n_positions per_step test_docs.py", "n_positions per_step test_docs.py"),
        ("<code>p_ij</code> p_ij", "<code>p_ij</code> p<sub>ij</sub>"),
        ('<a href="a_b.md#x_i">x_i</a>', '<a href="a_b.md#x_i">x<sub>i</sub></a>'),
        ("<pre><code>a_b</code> c_d</pre>", "<pre><code>a_b</code> c_d</pre>"),
    ],
)
def test_indices(text: str, shown: str) -> None:
    assert of_the_site("mathematics").with_indices(text) == shown


def test_a_label_at_the_beginning_of_a_line_gets_its_formula() -> None:
    drawn, formulas = (lambda source: f"<math>{source}</math>"), {"V1": "one", "V2": "two"}
    given = "<li><strong>[V1]</strong> reported. See [V2].</li><p><strong>[V1], [V2]</strong> both</p><li>[V1]</li><p><strong>[X9]</strong></p>"
    shown = of_the_site("mathematics").with_formulas(given, formulas, drawn)
    assert shown == (
        "<li><strong>[V1]</strong><math>one</math>  reported. See [V2].</li>"
        "<p><strong>[V1], [V2]</strong><math>one</math><math>two</math>  both</p><li>[V1]</li><p><strong>[X9]</strong> </p>"
    )


def test_every_label_of_the_theory_that_has_a_formula_gets_it() -> None:
    pytest.importorskip("latex2mathml", reason="formulas are drawn by latex2mathml (extra report)")
    from zopog_ref.app.verify.formulas import FORMULAS, mathml

    text = (SITE.parent / "theory.md").read_text("utf-8")
    labels = [label for label in re.findall(r"^- \*\*\[(\w+)\]", text, re.MULTILINE) if label in FORMULAS]
    assert len(labels) >= 25
    html = "".join(f"<li><strong>[{label}]</strong> x</li>" for label in labels)
    shown = of_the_site("mathematics").with_formulas(html, FORMULAS, mathml)
    assert shown.count("<math") == len(labels)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    """WCAG 2's ratio of two colours."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def colours(css: str) -> dict[str, str]:
    found = dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{3,6})\b", css))
    return {name: v if len(v) == 7 else "#" + "".join(2 * c for c in v[1:]) for name, v in found.items()}


def test_the_ratio_is_wcag_s() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", [0, 1])
def test_text_of_the_reports_can_be_read(mode: int) -> None:
    css = (SITE.parents[1] / "zopog_ref" / "app" / "report" / "style.css").read_text("utf-8")
    root = [colours(block) for block in re.findall(r":root\{(.*?)\}", css, re.DOTALL)]
    c = root[0] if mode == 0 else root[0] | root[1]
    for ink in ("ink", "soft", "good", "bad", "not", "c1", "c2", "c3", "c4", "c5", "c6"):
        for ground in ("bg", "panel", "tint"):
            assert contrast(c[ink], c[ground]) >= 4.5, (ink, ground)


def test_text_of_the_site_can_be_read() -> None:
    css = (SITE / "style.css").read_text("utf-8")
    light = colours(css.partition('[data-md-color-scheme="slate"]')[0])
    dark = colours(css.partition('[data-md-color-scheme="slate"]')[2].partition("}")[0])
    for scheme, ground in ((light, "#ffffff"), (dark, "#1e2129")):
        assert contrast("#ffffff", scheme["md-primary-fg-color"]) >= 4.5  # the header
        for name in ("md-typeset-a-color", "md-accent-fg-color", "md-default-fg-color--light"):
            assert contrast(scheme[name], ground) >= 4.5, name
    for name in ("number", "constant", "comment"):
        assert contrast(dark[f"md-code-hl-{name}-color"], "#272a35") >= 4.5, name  # on the ground of code
