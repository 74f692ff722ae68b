// The controls, the reading-off, and drawing each chart when it comes near. Only text is ever put into the page.

const state = { axis: "steps", metric: 0, log: false, hidden: new Set(), picked: new Set(), problem: "" };
const MOST_READ = 12; // lines of a read-off
const form = document.getElementById("controls");
const readout = document.getElementById("readout");
const charts = new Map();

const make = (tag, properties = {}, ...inside) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
};

function save(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text])), download: name.replace(/[^\w.-]+/g, "-") });
  link.click();
  URL.revokeObjectURL(link.href);
}

/** A picture with the colours of the page in place of its variables. */
function resolved(svg) {
  const probe = document.body.appendChild(make("i"));
  const found = svg.replace(/var\(--[\w-]+\)/g, (name) => {
    probe.style.color = name;
    return getComputedStyle(probe).color;
  });
  probe.remove();
  return found;
}

class Chart {
  constructor(plot) {
    this.plot = plot;
    this.kind = plot.dataset.kind;
    this.data = page.charts[plot.dataset.place];
    this.stale = true;
    this.at = null;
    plot.addEventListener("pointermove", (event) => this.point(event));
    plot.addEventListener("pointerleave", () => this.quiet());
    plot.addEventListener("blur", () => this.quiet());
    plot.addEventListener("keydown", (event) => this.key(event));
    plot.addEventListener("click", (event) => this.pick(event.clientY - plot.getBoundingClientRect().top));
    this.figure = plot.closest("figure");
    this.menu();
  }

  /** Enlarging, with zooming by wheel and dragging, and what can be taken away. */
  menu() {
    const menu = make("details", { className: "tools" }, make("summary", { textContent: "⋯", ariaLabel: `Menu of the chart ${this.figure.querySelector("h3").textContent}` }));
    const file = (kind) => `${this.figure.querySelector("h3").textContent}-${this.kind}.${kind}`;
    const actions = {
      "Enlarge and zoom": () => {
        this.large = this.figure.classList.toggle("large");
        this.stale = true;
        this.draw();
      },
      "Save as SVG": async () => save(file("svg"), resolved(await this.view.toSVG())),
      "Save numbers": () => save(file("csv"), this.numbers()),
    };
    for (const [textContent, action] of Object.entries(actions)) menu.append(make("button", { type: "button", textContent, onclick: action }));
    this.figure.querySelector("figcaption").append(menu);
  }

  /** What can be read off, as a table. */
  numbers() {
    const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
    const rows = this.model.stops.flatMap((at) => this.model.read(at).filter(Boolean).map((row) => [at, quoted(looks[row.o].name), row.value === null ? "" : Math.abs(row.value), quoted(row.text)].join(",")));
    return ["x,optimizer,value,text", ...rows].join("\n");
  }

  /** Under the chart: what is nearest to a height at the place that is read, its cell, and the command that computes it. */
  pick(top) {
    const problem = page.problems[this.figure.dataset.problem];
    const rows = (this.at === null ? [] : this.model.read(this.at)).filter((row) => row && row.value !== null);
    if (!problem || !rows.length) return;
    const far = (row) => Math.abs(this.view.origin()[1] + this.view.scale("y")(row.value) - top);
    const row = rows.reduce((best, other) => (far(other) < far(best) ? other : best));
    const rate = row.rate && !problem.staged ? ` --lr ${Number(row.rate.toPrecision(6))}` : "";
    this.figure.querySelector(".picked")?.remove();
    const text = `${looks[row.o].name}, ${this.model.title(this.at)}: ${row.text}${row.cell ? `; cell ${row.cell} (the first seed)` : ""}`;
    const command = make("pre", {}, make("code", { textContent: problem.at[row.o].command + rate }));
    const shown = make("div", { className: "commands" }, command, make("button", { type: "button", className: "copy", textContent: "Copy" }));
    this.figure.append(make("div", { className: "picked" }, make("p", { textContent: text }), shown));
  }

  async draw() {
    if (!this.stale) return;
    this.stale = false;
    this.model = kinds[this.kind](this.data, { ...state, large: this.large });
    const caption = this.plot.closest("figure").querySelector(".metric");
    if (caption) caption.textContent = this.model.label;
    const box = this.plot.querySelector("div.drawing") ?? this.plot.appendChild(document.createElement("div"));
    box.className = "drawing";
    if (!this.model.spec.layer.length) { // nobody is chosen
      this.view?.finalize();
      this.view = null;
      box.replaceChildren();
      return;
    }
    const { layer } = this.model.spec;
    if (this.large) layer[0] = { ...layer[0], params: [{ name: "zoom", select: "interval", bind: "scales" }] };
    const size = { width: this.plot.clientWidth, height: this.plot.clientHeight };
    this.width = size.width;
    const options = { actions: false, defaultStyle: false, renderer: "svg", tooltip: false, expressionFunctions: { tick } };
    const result = await vegaEmbed(box, { ...this.model.spec, ...size }, options);
    this.view?.finalize();
    this.view = result.view;
    box.querySelector("svg")?.setAttribute("aria-hidden", "true");
    this.plot.dataset.drawn = "";
  }

  /** The place of a pointer on the x axis. */
  point(event) {
    if (!this.view) return;
    const box = this.plot.getBoundingClientRect();
    const left = event.clientX - box.left - this.view.origin()[0];
    const { stops, dots } = this.model;
    if (dots) { // along the steps, slowly at first: most happens there
      const share = Math.min(1, Math.max(0, left / this.view.width()));
      this.show(stops[Math.round((stops.length - 1) * share ** 1.5)]);
      return;
    }
    const x = this.view.scale("x").invert(left);
    if (Number.isFinite(x)) this.show(this.nearest(x));
  }

  nearest(x) {
    const far = logarithmic.has(this.kind) || (this.kind === "progress" && state.log) ? (a) => Math.abs(Math.log(a / x)) : (a) => Math.abs(a - x);
    return this.model.stops.reduce((best, stop) => (far(stop) < far(best) ? stop : best), this.model.stops[0]);
  }

  key(event) {
    const stops = this.model?.stops ?? [];
    const stride = stops.length < 30 ? 1 : Math.max(1, Math.round(stops.length / 60));
    const now = this.at === null ? -stride : stops.indexOf(this.at);
    const moves = { ArrowRight: now + stride, ArrowUp: now + stride, ArrowLeft: now - stride, ArrowDown: now - stride, Home: 0, End: stops.length - 1 };
    if (event.key === "Escape") this.quiet();
    if (event.key === "Enter") this.pick(this.plot.clientHeight); // the best
    if (!(event.key in moves) || !stops.length) return;
    event.preventDefault();
    this.show(stops[Math.min(stops.length - 1, Math.max(0, moves[event.key]))]);
  }

  /** The rule at a place, and what every optimizer shows there, best first. */
  show(at) {
    if (at === undefined || !this.view) return;
    this.at = at;
    const all = this.model.read(at).filter(Boolean).sort((a, b) => (a.value ?? Infinity) - (b.value ?? Infinity));
    const rows = all.length > MOST_READ ? split(all, state)[0].slice(0, MOST_READ) : all;
    const lines = rows.map((row) => line(looks[row.o], row.text));
    if (rows.length < all.length) lines.push(make("div", { textContent: `and ${all.length - rows.length} more` }));
    const head = document.createElement("b");
    head.textContent = this.model.title(at);
    readout.replaceChildren(head, ...lines);
    const left = this.mark(at);
    readout.hidden = false;
    const box = this.plot.getBoundingClientRect();
    const right = left + 14 + readout.offsetWidth < box.width || left < box.width / 2;
    const wanted = box.left + (right ? left + 14 : left - 14 - readout.offsetWidth);
    readout.style.left = `${scrollX + Math.max(4, Math.min(wanted, document.documentElement.clientWidth - readout.offsetWidth - 4))}px`;
    readout.style.top = `${scrollY + box.top + 8}px`;
    const share = Math.round((100 * this.model.stops.indexOf(at)) / Math.max(1, this.model.stops.length - 1));
    this.plot.setAttribute("aria-valuenow", String(share));
    this.plot.setAttribute("aria-valuetext", [head.textContent, ...rows.map((row) => `${looks[row.o].name} ${row.text}`)].join("; "));
  }

  /** A rule at a place, or a dot on each path; returns how far right to write beside it. */
  mark(at) {
    const [left, top] = this.view.origin();
    const signs = this.model.dots
      ? this.model.dots(at).map(([x, y, o]) => sign("dot", { left: left + this.view.scale("x")(x), top: top + this.view.scale("y")(y), color: hues[o] }))
      : [sign("rule", { left: left + this.view.scale("x")(at), top, height: this.view.height() })];
    for (const old of this.plot.querySelectorAll(".sign")) old.remove();
    this.plot.append(...signs);
    return this.model.dots ? left + this.view.width() : left + this.view.scale("x")(at);
  }

  quiet() {
    readout.hidden = true;
    for (const old of this.plot.querySelectorAll(".sign")) old.remove();
    this.at = null;
  }
}

/** A rule or a dot over a chart. */
function sign(kind, { left, top, height, color }) {
  const element = document.createElement("div");
  element.className = `sign ${kind}`;
  Object.assign(element.style, { left: `${left}px`, top: `${top}px`, ...(height && { height: `${height}px` }), ...(color && { background: color }) });
  return element;
}

/** One line of the read-off: the optimizer's sign, its name, a value. */
function line(look, text) {
  const row = document.createElement("div");
  const glyph = document.querySelector(`#controls input[name=optimizer][value="${looks.indexOf(look)}"] + .glyph`).cloneNode(true);
  const [name, value] = [look.name, text].map((part) => Object.assign(document.createElement("span"), { textContent: part }));
  row.append(glyph, name, value);
  return row;
}

// --- drawing: what is near first, the rest while nothing else is to do (find-in-page and printing want all of it)

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = charts.get(entry.target);
    chart.near = entry.isIntersecting;
    if (chart.near) chart.draw();
  }
}, { rootMargin: "400px" });

const idle = (work) => (window.requestIdleCallback ? requestIdleCallback(work, { timeout: 300 }) : setTimeout(work, 30));

async function drawRest() {
  const next = [...charts.values()].find((chart) => chart.stale && chart.plot.offsetParent);
  if (!next) {
    document.documentElement.dataset.drawn = "all";
    return;
  }
  await next.draw();
  idle(drawRest);
}

function redraw() {
  delete document.documentElement.dataset.drawn;
  for (const chart of charts.values()) {
    chart.quiet();
    chart.stale = true;
    if (chart.near) chart.draw();
  }
  idle(drawRest);
}

const sizes = new ResizeObserver((entries) => {
  if (entries.some(({ target }) => charts.get(target).width && charts.get(target).width !== target.clientWidth)) redraw();
});

for (const plot of document.querySelectorAll(".plot")) {
  charts.set(plot, new Chart(plot));
  near.observe(plot);
  sizes.observe(plot);
}
idle(drawRest);

// --- controls: the form holds what the charts show, and the address of the page what both it and the table do

form.hidden = false;
new ResizeObserver(() => { // what a link leads to must not lie under them
  const covered = getComputedStyle(form).position === "sticky" ? form.offsetHeight : 0;
  document.documentElement.style.setProperty("--covered", `${covered}px`);
}).observe(form);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", () => {
  apply();
  remember();
});

function apply() {
  const asked = new FormData(form);
  const shown = new Set(asked.getAll("optimizer").map(Number));
  state.hidden = new Set(looks.map((_, place) => place).filter((place) => !shown.has(place)));
  state.axis = asked.get("axis");
  state.log = asked.has("log");
  state.metric = Number(asked.get("metric") ?? 0);
  state.problem = asked.get("problem") ?? "";
  for (const part of document.querySelectorAll("[data-axis]")) part.hidden = part.dataset.axis !== state.axis;
  for (const part of document.querySelectorAll("[data-problem]")) {
    const kind = page.problems[part.dataset.problem].toy ? "toy" : "real";
    part.hidden = !["", kind, part.dataset.problem].includes(state.problem);
  }
  const other = { real: "toy", toy: "real task" }[state.problem];
  for (const part of document.querySelectorAll("[data-of]")) part.hidden = !!other && part.dataset.of.endsWith(other);
  redraw();
}
for (const [id, checked] of [["all", true], ["none", false]]) {
  document.getElementById(id)?.addEventListener("click", () => {
    for (const input of form.querySelectorAll("input[name=optimizer]")) input.checked = checked;
    form.dispatchEvent(new Event("change"));
  });
}
