"""The page in a real browser: it asks for nothing, says nothing wrong, and computes what Python computes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browser, needs_browser
from run_folders import Values, fields, write_run
from tau2_lines import simulation, write_lines

from harness.feed.compare import compare
from harness.report.data import Wanted
from harness.report.page import write_page

pytestmark = needs_browser
RIGHT: list[float | None] = [1.0] * 12 + [0.0] * 28
LATER: list[float | None] = [1.0] * 8 + [0.0] * 4 + [1.0] * 18 + [0.0] * 9 + [None]
HOSTILE = "</script><img src=x onerror=\"document.title='stolen'\"><svg onload=alert(1)>\u202e"


@pytest.fixture(scope="module")
def web() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder and a page of it with some simulations."""
    folder = tmp_path_factory.mktemp("report")
    steps = {
        10 * at: {
            **fields(at, code=move, prose=-move / 4),
            "arc": Values(values=RIGHT if at == 0 else LATER),
            "loss": Values(values=[1 - (x or 0) for x in RIGHT], metric="err", higher_is_better=False, weight=0.0),
        }
        for at, move in enumerate((0.0, 0.1, 0.3))
    }
    none: list[float | None] = [None] * 40
    steps[30] = {**steps[20], "arc": Values(values=none)}
    run = write_run(folder / "run", {"mix-0": steps, "mix-1": steps}, mixtures={"mix-0": {"code": 0.5, "prose": 0.5}})
    lines = [simulation(str(i), float(i % 2)) for i in range(5)]
    lines.append(simulation(HOSTILE, 0.0, words=HOSTILE))
    page = folder / "page.html"
    sims = write_lines(folder / "sims" / "simulations.jsonl", *lines)
    page.write_bytes(write_page(Wanted(paths=(run, sims.parent)), max_bytes=10**7))
    return run, page


def test_the_page_asks_for_nothing_and_the_console_stays_empty(web: Browser, made: tuple[Path, Path]) -> None:
    web.open(made[1])
    web.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    web.run(
        """for (const one of document.querySelectorAll('header select, #curves select, #compare select, #questions select')) {
          one.selectedIndex = one.length - 1;
          one.dispatchEvent(new Event('change'));
        }"""
    )
    web.click("#simlist tbody tr:nth-child(2)")
    assert web.requests() == [made[1].resolve().as_uri()]
    assert web.console() == []


def test_the_policy_forbids_what_the_page_does_not_do(web: Browser, made: tuple[Path, Path]) -> None:
    web.open(made[1])
    tried = web.run(
        """const found = [];
        try { document.body.innerHTML += '<b>x</b>'; found.push('markup from text'); } catch { /* refused */ }
        const script = document.createElement('script');
        script.append("document.title = 'stolen'");
        document.body.append(script);
        const image = new Image();
        image.src = 'file:///etc/hostname';
        document.body.append(image);
        const style = document.createElement('style');
        style.append('h1 { color: rgb(1, 2, 3) }');
        document.head.append(style);
        return [found, document.title === 'stolen', getComputedStyle(document.querySelector('h1')).color];"""
    )
    assert tried[:2] == [[], False] and tried[2] != "rgb(1, 2, 3)"
    refused = web.console()
    assert len(refused) >= 4 and all("Content Security Policy" in said or "Trusted" in said for said in refused)
    assert any("img-src" in said for said in refused)


def test_changes_the_other_way_round_are_those_that_python_computes(web: Browser, made: tuple[Path, Path]) -> None:
    run, page = made
    web.open(page)
    labels = web.run("return report.compared.labels")
    for before, after in itertools.permutations(range(4), 2):
        (found,) = compare(f"{run}:{labels[before]}", [f"{run}:{labels[after]}"])
        for row in found.components:
            shown = web.run("return report.compare(...arguments)", row.name, before, after)
            if row.change is None:
                assert shown["change"] is None and shown["status"] == row.status
                continue
            assert shown["change"] == pytest.approx(row.change, rel=1e-5, abs=1e-12)
            assert shown["word"] == row.word and shown["n"] == row.n_paired
            assert shown["stderr"] == (None if row.stderr is None else pytest.approx(row.stderr, rel=1e-2))
            if row.interval is not None:
                assert [shown["low"], shown["high"]] == pytest.approx(list(row.interval), rel=1e-5, abs=1e-12)
            if row.flips is not None:
                assert (shown["up"], shown["down"]) == (len(row.flips.to_right), len(row.flips.to_wrong))
        scalar = web.run("return report.compareScalar(...arguments)", before, after)["change"]
        assert scalar == (
            None if found.scalar.change is None else pytest.approx(found.scalar.change, rel=1e-5, abs=1e-9)
        )


def test_the_questions_that_flipped_are_those_that_python_names(web: Browser, made: tuple[Path, Path]) -> None:
    run, page = made
    web.open(page)
    labels, ids = web.run("return [report.compared.labels, report.compared.items.arc.ids]")
    for before, after in itertools.permutations(range(3), 2):
        (found,) = compare(f"{run}:{labels[before]}", [f"{run}:{labels[after]}"])
        (flips,) = [row.flips for row in found.components if row.name == "arc"]
        assert flips is not None
        moved = web.run("return report.moved('arc', ...arguments)", before, after)
        assert sorted(ids[one["i"]] for one in moved if one["better"]) == sorted(flips.to_right)
        assert sorted(ids[one["i"]] for one in moved if not one["better"]) == sorted(flips.to_wrong)


def test_a_simulation_opens_by_click_by_key_and_by_link(web: Browser, made: tuple[Path, Path]) -> None:
    web.open(made[1])
    web.click("#simlist tbody tr:nth-child(3)")
    shown = web.text("#transcript")
    assert shown.startswith("Task 2") and "Cause: agent (wrong_call, turn 1)" in shown and "pay(id=1)" in shown
    assert "hello 2" in shown
    assert web.run("return location.hash") == "#simulations?show=2"
    web.press("j")
    assert web.text("#transcript h3").startswith("Task 3")
    web.press("k", "k")
    assert web.text("#transcript h3").startswith("Task 1")
    web.press("Escape")
    assert web.run("return document.activeElement.getAttribute('aria-label')") == "task 1, solved"
    web.press("ArrowDown", "Enter")
    assert web.text("#transcript h3").startswith("Task 2")
    web.open(made[1], "#simulations?show=4")
    assert web.text("#transcript h3").startswith("Task 4")


def test_a_link_shows_the_same_pair_and_component_again(web: Browser, made: tuple[Path, Path]) -> None:
    web.open(made[1], "#questions?before=mix-0%400&after=mix-1%4010&component=arc")
    assert web.run("return [report.pair, report.component]") == [{"before": 0, "after": 5}, "arc"]
    assert web.text("#moved") == "18 answers became right and 4 wrong, of 40 items."
    web.run("report.setPair(1, 2, 'compare')")
    assert web.run("return location.hash") == "#compare?before=mix-0%4010&after=mix-0%4020&component=arc"
    web.open(made[1], "#questions?before=nothing&after=%3Cscript%3E&component=toString")
    assert web.run("return document.documentElement.dataset.failed") is None


def test_a_hostile_transcript_is_text(web: Browser, made: tuple[Path, Path]) -> None:
    web.open(made[1], "#simulations?show=5")
    web.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert HOSTILE in web.run("return document.getElementById('transcript').textContent")
    found = web.run(
        "return [document.querySelectorAll('img, iframe, object, [onload], [onerror]').length, document.title]"
    )
    assert found[0] == 0 and found[1] != "stolen"
    assert web.console() == [] and web.requests() == [made[1].resolve().as_uri()]


def test_failures_and_what_is_not_compared_are_said(web: Browser, made: tuple[Path, Path]) -> None:
    web.open(made[1], "#compare?before=mix-0%400&after=mix-0%4030")
    assert "the server did not answer" in web.text("#causes")
    assert "2 measurements failed" in web.text("#counts")
    assert "arc: " in web.text("#compare") and "the server did not answer" in web.text("#compare")


LUMINANCE = """
const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const rgb = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return text.startsWith('color(') ? [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1]; };
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (element) => { if (!element) return [255, 255, 255, 1]; const own = rgb(getComputedStyle(element).backgroundColor); return own[3] >= 1 ? own : over(own, ground(element.parentElement)); };
const bad = [];
for (const element of document.querySelectorAll('body *')) {
  if (element.closest('svg, canvas, script, .uplot') || ![...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height) continue;
  const back = ground(element), front = over(rgb(getComputedStyle(element).color), back);
  const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < 4.5) bad.push(element.tagName + '.' + element.className + ' ' + ratio.toFixed(2) + ' ' + element.textContent.trim().slice(0, 30));
}
return bad;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(web: Browser, made: tuple[Path, Path], scheme: str) -> None:
    web.media(prefers_color_scheme=scheme)
    web.open(made[1], "#simulations?show=2")
    web.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert web.run("return document.documentElement.dataset.theme") == scheme
    assert web.run(LUMINANCE) == []
    web.media(prefers_color_scheme="light")


def test_everything_that_can_be_used_has_a_name_and_a_place_in_the_order_of_keys(
    web: Browser, made: tuple[Path, Path]
) -> None:
    web.open(made[1])
    nameless = web.run(
        """const named = (e) => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || (e.labels && e.labels.length) || e.textContent.trim();
        return [...document.querySelectorAll('button, select, input, a, [role], summary, section, nav, [tabindex]')].filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 80));"""
    )
    assert nameless == []
    assert web.run(
        "return new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size === document.querySelectorAll('[id]').length"
    )
    assert web.run(
        "return [document.documentElement.lang, document.querySelectorAll('h1').length, document.querySelectorAll('main').length]"
    ) == ["en", 1, 1]
    assert web.run("return [...document.querySelectorAll('table')].every((t) => t.querySelector('th[scope=col]'))")
    levels = web.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map((e) => Number(e.tagName[1]))")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), levels


def test_the_matrix_and_the_plots_are_walked_by_key(web: Browser, made: tuple[Path, Path]) -> None:
    web.open(made[1])
    web.run("document.querySelector('.matrix td[tabindex=\"0\"]').focus()")
    web.press("ArrowRight")
    assert "mix-0@0 → mix-0@20" in web.text("#matrix .detail")
    web.press("Enter")
    assert web.run("return report.pair") == {"before": 0, "after": 2}
    web.run("document.querySelector('.panel').focus()")
    web.press("ArrowRight", "ArrowRight")
    readouts = web.run("return [...document.querySelectorAll('.panel .readout')].map((e) => e.textContent)")
    assert all(said.startswith("step 10:") for said in readouts), readouts  # all panels follow one cursor


def test_a_zoom_is_one_of_all_panels_and_ends(web: Browser, made: tuple[Path, Path]) -> None:
    web.open(made[1])
    web.run("report.plots[0].setScale('x', {min: 5, max: 25})")
    ranges = "return report.plots.map((p) => [p.scales.x.min, p.scales.x.max])"
    assert {tuple(found) for found in web.run(ranges)} == {(5, 25)}
    web.press("Escape")
    assert {tuple(found) for found in web.run(ranges)} == {(0, 30)}


def test_a_page_of_simulations_alone_and_one_of_nothing_yet_are_drawn(web: Browser, tmp_path: Path) -> None:
    sims = write_lines(tmp_path / "sims" / "simulations.jsonl", simulation("a", 1.0))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"schema": "harness.run/1"}))
    pages: dict[str, Any] = {"sims.html": sims.parent, "run.html": tmp_path / "run"}
    for name, source in pages.items():
        (tmp_path / name).write_bytes(write_page(Wanted(paths=(source,)), max_bytes=10**7))
        web.open(tmp_path / name)
        assert web.console() == []
    assert "Nothing is measured yet" in web.text("main")


def test_print_is_light_and_says_which_pair_it_shows(web: Browser, made: tuple[Path, Path]) -> None:
    web.media(prefers_color_scheme="dark")
    web.open(made[1], "#compare?before=mix-0%400&after=mix-0%4020")
    web.media(media="print", prefers_color_scheme="dark")
    web.run("dispatchEvent(new Event('beforeprint'))")
    found = web.run(
        """const seen = (e) => e.getBoundingClientRect().height > 0;
        return [getComputedStyle(document.body).backgroundColor, seen(document.querySelector('nav')),
          [...document.querySelectorAll('#compare select')].filter(seen).map((e) => e.selectedOptions[0].text)];"""
    )
    assert found == ["rgb(255, 255, 255)", False, ["mix-0@0", "mix-0@20"]]
    web.media(media="", prefers_color_scheme="light")
