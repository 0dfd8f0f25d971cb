"use strict";
// Reads values of charts aloud, switches curves and charts, enlarges ranges. Without it a page is complete.
(() => {
  const root = document.body;
  const data = JSON.parse(document.getElementById("data").textContent);
  const figures = [...document.querySelectorAll("figure.chart")];
  const form = document.querySelector("form.switches");
  const SVG = "http://www.w3.org/2000/svg";
  const hidden = new Set();

  const make = (tag, of, attributes = {}) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    of.append(node);
    return node;
  };
  // As gradquake.analysis.shown.number and bracketed write numbers.
  const number = (value) => {
    if (value === null) return "none";
    if (Math.abs(value) >= 100 || Number.isInteger(value)) return value.toFixed(0);
    if (Math.abs(value) < 0.001) return String(Number(value.toPrecision(2)));
    return value.toFixed(Math.abs(value) < 10 ? 3 : 1);
  };
  const bracketed = (value, low, high) =>
    low === null || high === null ? number(value) : `${number(value)} [${number(low)}, ${number(high)}]`;

  const short = (value) => Math.round(value * 10) / 10;
  const ticks = (low, high, most, log) => {
    if (log) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
        for (const of of [1, 2, 5]) found.push(of * 10 ** power);
      const seen = found.filter((value) => value >= low && value <= high);
      return seen.filter((_, place) => place % Math.ceil(seen.length / most) === 0);
    }
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((of) => power * of >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k <= Math.floor(high / step + 1e-9); k++)
      found.push(Number((k * step).toPrecision(12)));
    return found;
  };

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.data = data[figure.dataset.chart];
      this.plot = figure.querySelector(".plot");
      this.svg = this.plot.querySelector("svg");
      this.inner = this.svg.querySelector("svg.inner");
      [this.left, this.top, this.width, this.height] =
        ["x", "y", "width", "height"].map((name) => Number(this.inner.getAttribute(name)));
      this.range = this.data.x;
      this.groups = [...this.inner.querySelectorAll("g.series")];
      this.xs = [...new Set(this.data.series.flatMap((of) => of.x))].sort((a, b) => a - b);
      this.cursor = make("line", this.inner, {class: "cursor off", y1: 0, y2: this.height});
      this.chosen = make("rect", this.inner, {class: "chosen off", y: 0, height: this.height});
      this.readout = document.createElement("div");
      this.readout.className = "readout";
      this.readout.setAttribute("role", "status");
      this.plot.append(this.readout);
      this.plot.tabIndex = 0;
      this.plot.setAttribute("role", "group");
      this.plot.setAttribute("aria-label", `${figure.querySelector("h4").textContent}: arrow keys read its values`);
      this.listen();
    }
    place(value, [low, high], size) {
      const of = this.data.log ? Math.log : Number;
      return ((of(value) - of(low)) / (of(high) - of(low))) * size;
    }
    atX(value) { return this.place(value, this.range, this.width); }
    atY(value) {
      if (value === null || (this.data.log && value <= 0)) return NaN;
      return Math.max(-9999, Math.min(9999, this.height - this.place(value, this.data.y, this.height)));
    }
    valueAt(event) {
      const box = this.svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width) * this.svg.viewBox.baseVal.width - this.left;
      const part = Math.max(0, Math.min(1, share / this.width));
      const [low, high] = this.range;
      return this.data.log ? low * (high / low) ** part : low + part * (high - low);
    }
    nearest(value) {
      const seen = this.xs.filter((x) => x >= this.range[0] && x <= this.range[1]);
      return seen.reduce((best, x) => (Math.abs(x - value) < Math.abs(best - value) ? x : best), seen[0]);
    }
    listen() {
      let start = null;
      this.plot.addEventListener("pointerdown", (event) => {
        if (event.pointerType !== "touch") start = this.valueAt(event);
      });
      this.plot.addEventListener("pointermove", (event) => {
        const value = this.valueAt(event);
        if (start !== null && event.buttons) this.mark(start, value);
        read(this, this.nearest(value));
      });
      this.plot.addEventListener("pointerup", (event) => {
        const end = this.valueAt(event);
        this.mark(0, 0);
        if (start !== null && Math.abs(this.atX(end) - this.atX(start)) > 8)
          enlarge(this, [Math.min(start, end), Math.max(start, end)]);
        start = null;
      });
      this.plot.addEventListener("pointerleave", () => { start = null; this.mark(0, 0); read(this, undefined); });
      this.plot.addEventListener("dblclick", () => enlarge(this, null));
      this.plot.addEventListener("blur", () => read(this, undefined));
      this.plot.addEventListener("keydown", (event) => this.key(event));
    }
    key(event) {
      const seen = this.xs.filter((x) => x >= this.range[0] && x <= this.range[1]);
      const at = seen.indexOf(this.x);
      const next = {ArrowRight: Math.min(at + 1, seen.length - 1), ArrowLeft: Math.max(at - 1, 0), Home: 0, End: seen.length - 1}[event.key];
      if (next !== undefined) read(this, seen[next]);
      else if (event.key === "Escape") { read(this, undefined); enlarge(this, null); }
      else if (event.key === "+" || event.key === "-") {
        const middle = this.x ?? seen[Math.floor(seen.length / 2)];
        const half = (this.range[1] - this.range[0]) * (event.key === "+" ? 0.25 : 1);
        const [low, high] = this.data.x;
        enlarge(this, [Math.max(low, middle - half), Math.min(high, middle + half)]);
      } else return;
      event.preventDefault();
    }
    mark(from, to) {
      const [low, high] = [this.atX(Math.min(from, to)), this.atX(Math.max(from, to))];
      this.chosen.classList.toggle("off", from === to);
      if (from !== to) { this.chosen.setAttribute("x", low); this.chosen.setAttribute("width", high - low); }
    }
    show(x) {
      this.x = x;
      const off = x === undefined || x < this.range[0] || x > this.range[1];
      this.cursor.classList.toggle("off", off);
      this.readout.replaceChildren();
      if (off) return;
      const at = this.atX(x);
      this.cursor.setAttribute("x1", at);
      this.cursor.setAttribute("x2", at);
      const title = document.createElement("b");
      title.textContent = `${this.data.xLabel} ${number(x)}`;
      const lines = this.data.series.flatMap((of, place) => {
        const k = of.x.indexOf(x);
        const line = of.style === "line" && this.data.log;
        if (k < 0 || of.value[k] === null || hidden.has(of.name) || line) return [];
        const span = document.createElement("span");
        span.className = this.groups.find((group) => group.dataset.place === String(place)).classList[1];
        span.textContent = `${of.name.replaceAll("_", " ")} ${bracketed(of.value[k], of.low[k], of.high[k])}`;
        return [span];
      });
      if (!lines.length) return;
      this.readout.replaceChildren(title, ...lines);
      const share = (this.left + at) / (this.left + this.width);
      this.readout.style.left = share < 0.5 ? `${share * 100 + 3}%` : "auto";
      this.readout.style.right = share < 0.5 ? "auto" : `${(1 - share) * 100 + 3}%`;
    }
    draw() {
      const axis = this.svg.querySelector('[data-axis="x"]');
      axis.replaceChildren();
      const [top, bottom] = [this.top, this.top + this.height];
      for (const tick of ticks(...this.range, 6, this.data.log)) {
        const x = short(this.left + this.atX(tick));
        make("line", axis, {x1: x, x2: x, y1: top, y2: bottom});
        make("text", axis, {x, y: bottom + 14, "text-anchor": "middle"}).textContent = String(tick);
      }
      for (const group of this.inner.querySelectorAll("[data-x]")) {
        const [low, high] = group.dataset.x.split(" ").map((of) => this.atX(Number(of)));
        group.firstElementChild.setAttribute("x", low);
        group.firstElementChild.setAttribute("width", Math.max(high - low, 1));
      }
      for (const group of this.groups) this.drawSeries(group, this.data.series[group.dataset.place]);
    }
    drawSeries(group, of) {
      const xs = of.x.map((x) => short(this.atX(x) + of.shift));
      const [values, lows, highs] = [of.value, of.low, of.high].map((values) => values.map((y) => short(this.atY(y))));
      group.querySelectorAll("circle, .bar").forEach((node) => node.remove());
      const known = (k) => Number.isFinite(values[k]);
      xs.forEach((x, k) => {
        if (!known(k) || (of.style === "line" && (known(k - 1) || known(k + 1)))) return;
        if (Number.isFinite(lows[k])) make("line", group, {class: "bar", x1: x, x2: x, y1: lows[k], y2: highs[k]});
        make("circle", group, {cx: x, cy: values[k], r: 2.6});
      });
      if (of.style !== "line") return;
      const runs = (columns) => {
        const found = [];
        let run = [];
        xs.forEach((_, k) => {
          if (columns.every((column) => Number.isFinite(column[k]))) run.push(k);
          else { found.push(run); run = []; }
        });
        return [...found, run].filter((one) => one.length > 1);
      };
      const joined = (points) => `M${points.join("L")}`;
      group.querySelector(".line").setAttribute("d", runs([values]).map((run) =>
        joined(run.map((k) => `${xs[k]},${values[k]}`))).join(""));
      group.querySelector(".band").setAttribute("d", runs([lows, highs]).map((run) =>
        `${joined([...run.map((k) => `${xs[k]},${highs[k]}`), ...run.reverse().map((k) => `${xs[k]},${lows[k]}`)])}Z`).join(""));
    }
  }

  const charts = figures.map((figure) => new Chart(figure));
  const linked = (chart) => charts.filter((of) => of === chart || (chart.data.link && of.data.link === chart.data.link));
  // All charts of one link move their cursors, but one readout is enough for ears: the chart that is used.
  const read = (chart, x) => {
    for (const of of linked(chart)) {
      of.readout.setAttribute("aria-live", of === chart ? "polite" : "off");
      of.show(x);
    }
  };
  const enlarge = (chart, range) => {
    for (const of of linked(chart)) { of.range = range ?? of.data.x; of.draw(); of.show(undefined); }
  };

  const applySwitches = () => {
    hidden.clear();
    for (const box of form.querySelectorAll("input[name=series]")) if (!box.checked) hidden.add(box.value);
    for (const group of document.querySelectorAll("main g[data-name]"))
      group.classList.toggle("off", hidden.has(group.dataset.name));
    root.classList.toggle("bands", form.elements.bands.checked);
    const chosen = [...form.querySelectorAll("select")].filter((select) => select.value);
    const marked = document.querySelectorAll("main [data-statistic], main [data-phase], main [data-channel]");
    for (const node of marked)
      node.classList.toggle("off", chosen.some(({name, value}) => node.dataset[name] && node.dataset[name] !== value));
  };
  if (form) {
    form.addEventListener("input", applySwitches);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => {
      applySwitches();
      charts.forEach((chart) => { chart.range = chart.data.x; chart.draw(); });
    }));
    // A browser may keep the state of a form over a reload.
    applySwitches();
  }
  root.classList.add("live");
})();
