"""The size of a report's code, and how fast a browser draws 10,000 points, beside plotly.

It needs Chromium and playwright; plotly is the peer if it is installed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from gradquake.report.charts import Chart, Series
from gradquake.report.page import TEMPLATES, Chapter, Part, page

POINTS = 10_000
REPEATS = 7

# Milliseconds from the start of the navigation to the frame after the page has loaded.
SHOWN = """() => new Promise((done) => {
  const end = () => requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  document.readyState === "complete" ? end() : addEventListener("load", end);
})"""
# Milliseconds of enlarging a quarter of the range with the keyboard, until the next frame is shown.
REDRAWN = """() => new Promise((done) => {
  const plot = document.querySelector("figure.chart .plot");
  const start = performance.now();
  plot.dispatchEvent(new KeyboardEvent("keydown", {key: "+"}));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
PLOTLY_REDRAWN = """() => new Promise((done) => {
  const plot = document.querySelector(".plotly-graph-div");
  const start = performance.now();
  Plotly.relayout(plot, {"xaxis.range": [2500, 5000]})
    .then(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))));
})"""


def own(value, low, high):
    x = np.arange(POINTS, dtype=float)
    chart = Chart("Many points", "epoch", "D(t)", [Series("real", "c0", x, value, low, high)])
    part = Part("Many points", lambda of: {"charts": [of]}, TEMPLATES / "charts.html")
    return page("Many points", [Chapter("", {"many": part}, chart)])


def plotly(value, low, high):
    from plotly import graph_objects as go

    x = np.arange(POINTS)
    band = [go.Scatter(x=x, y=low), go.Scatter(x=x, y=high, fill="tonexty")]
    return go.Figure([*band, go.Scatter(x=x, y=value)]).to_html(include_plotlyjs=True)


def times(browser, path, redrawn):
    shown, again = [], []
    for _ in range(REPEATS):
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(path.as_uri(), wait_until="commit")
        shown.append(tab.evaluate(SHOWN))
        again.append(tab.evaluate(redrawn))
        tab.close()
    return np.median(shown), np.median(again)


def main():
    code = {name: (TEMPLATES / name).stat().st_size for name in ("script.js", "style.css")}
    print(", ".join(f"{name}: {size / 1000:.1f} kB" for name, size in code.items()))
    value = np.random.default_rng(0).standard_normal(POINTS).cumsum()
    pages = {"gradquake": (own, REDRAWN)}
    try:
        import plotly as _  # noqa: F401
    except ImportError:
        print("without plotly, which is not installed")
    else:
        pages["plotly"] = (plotly, PLOTLY_REDRAWN)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, (made, redrawn) in pages.items():
            path = Path(folder) / f"{name}.html"
            path.write_text(made(value, value - 1, value + 1), encoding="utf-8")
            shown, again = times(browser, path, redrawn)
            size = path.stat().st_size / 1e6
            print(f"{name:<10} {size:5.2f} MB, shown after {shown:4.0f} ms, redrawn in {again:4.0f} ms")
        browser.close()


if __name__ == "__main__":
    main()
