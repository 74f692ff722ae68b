// What each kind of chart looks like: from the page's data to Vega-Lite. Colours are CSS variables, so that a change of
// the colour scheme draws nothing again.

const page = JSON.parse(document.getElementById("data").textContent);
const looks = page.optimizers;
const names = looks.map((_, place) => String(place));
const hues = looks.map((look) => `var(--hue-${look.hue})`);
const MOST_BANDS = 8;
const CROSS = "M-1,-1L1,1M1,-1L-1,1";
const STAR = "M0,-1L0.225,-0.309L0.951,-0.309L0.363,0.118L0.588,0.809L0,0.382L-0.588,0.809L-0.363,0.118L-0.951,-0.309L-0.225,-0.309Z";
const AXES = { steps: "steps", seconds: "seconds", gradients: "gradient equivalents" };

const superscript = (number) => [...String(number)].map((digit) => (digit === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])).join("");

/** A tick of a log axis: a power of ten as one where it is far from 1, else a plain number. */
function tick(value) {
  const power = Math.round(Math.log10(value));
  const whole = Math.abs(value / 10 ** power - 1) < 1e-6;
  if (whole && (power < -2 || power > 3)) return `10${superscript(power)}`;
  return value >= 1e-3 && value < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(0).replace("e+", "e");
}

const config = {
  aria: false,
  background: null,
  font: getComputedStyle(document.documentElement).getPropertyValue("--sans"),
  view: { stroke: null },
  axis: {
    labelColor: "var(--soft)", titleColor: "var(--soft)", domainColor: "var(--soft)", tickColor: "var(--soft)",
    gridColor: "var(--grid)", titleFontWeight: 400, labelFontSize: 11, titleFontSize: 11.5, labelPadding: 4, tickSize: 4,
  },
  axisX: { grid: false, titlePadding: 5 },
  axisY: { domain: false, ticks: false, labelPadding: 8 }, // a marker at the left edge is as wide
  legend: { disable: true },
};

const color = { field: "o", type: "nominal", scale: { domain: names, range: hues } };
const fill = { ...color, scale: { domain: names, range: hues.map((hue, i) => (looks[i].hollow ? "var(--paper)" : hue)) } };
const shape = { field: "o", type: "nominal", scale: { domain: names, range: looks.map((look) => look.shape) } };
const strokeDash = { field: "o", type: "nominal", scale: { domain: names, range: looks.map((look) => (look.dash.length ? look.dash : [1, 0])) } };
const pixel = (field) => ({ field, type: "quantitative", scale: null });

/** Whether an optimizer is drawn in colour: a selected one, or, where none is, one of those that the page begins with. */
const lit = (o, state) => (state.picked.size ? state.picked.has(Number(o)) : page.lit.includes(Number(o)));
/** The rows in colour, and those behind them in grey. */
const split = (rows, state) => [rows.filter((row) => lit(row.o, state)), rows.filter((row) => !lit(row.o, state))];
const behind = (rows, encoding, more = {}) => layer(rows, { type: "line", clip: true, strokeWidth: 1, stroke: "var(--dim)", ...more }, { ...encoding, detail: { field: "o" } });

/** A chart without its size; layers without data are left out. */
const frame = (layers) => ({
  autosize: { type: "fit", contains: "padding" },
  padding: { left: 2, right: 12, top: 6, bottom: 2 }, config,
  layer: layers.filter(({ data }) => data.values.length),
});
const layer = (values, mark, encoding) => ({ data: { values }, mark: { clip: false, opacity: 1, ...mark }, encoding });

const logAxis = (scale, title) => ({
  title,
  scale: { type: "log", domain: scale.span, nice: false },
  axis: { values: scale.ticks, labelExpr: scale.percent ? "format(datum.value, '.2~%')" : "tick(datum.value)" },
});

/** Steps as seconds or gradient equivalents: what one step of this optimizer takes, times steps. */
const perStep = (data, axis, o) => (axis === "steps" ? 1 : data[axis][o]);

const few = (lines, state) => split(lines, state)[0].length <= MOST_BANDS;

/** Which points of a line carry its marker: about six, at different places for different lines. */
function marked(count, place, of) {
  const every = Math.max(1, Math.floor(count / 6));
  const found = new Set([count - 1]);
  for (let i = Math.floor((place * every) / of); i < count - 1 - every / 2; i += every) found.add(i);
  return found;
}

/** Median and band while training. */
function progress(data, state) {
  const chart = data.progress[Math.min(state.metric, data.progress.length - 1)];
  const lines = chart.lines.filter((line) => !state.hidden.has(line.o) && perStep(data, state.axis, line.o) !== null);
  const rows = lines.flatMap((line, place) => {
    const factor = perStep(data, state.axis, line.o);
    const shown = line.end;
    const markers = marked(shown, place, lines.length);
    return line.x.map((x, i) => ({
      o: String(line.o), x: x * factor, low: line.low[i], high: line.high[i],
      y: i < shown ? line.y[i] : null, marked: markers.has(i),
    }));
  }).filter((row) => !state.log || row.x > 0);
  const lost = data.lost.filter(([o]) => !state.hidden.has(o)).map(([o, step]) => ({ o: String(o), x: step * perStep(data, state.axis, o), y: 3 }));
  const ends = rows.length ? [Math.min(...rows.map((row) => row.x)), Math.max(...rows.map((row) => row.x))] : [1, 10];
  const x = {
    field: "x", type: "quantitative", title: AXES[state.axis] + (state.axis === "seconds" ? " (one lane)" : ""),
    scale: state.log ? { type: "log", domain: ends, nice: false } : { domain: [0, ends[1] * 1.015], nice: false },
    axis: { tickCount: 6, labelOverlap: true, ...(state.log ? { labelExpr: "tick(datum.value)" } : { format: ends[1] < 1e4 ? ",~r" : "~s" }) },
  };
  const y = { field: "y", type: "quantitative", ...logAxis(chart, null) };
  const each = (state.large ? lines : []).filter((line) => lit(line.o, state)); // a small chart has no room
  const thin = (of) => each.flatMap((line) => (line[of] ?? []).flatMap((values, place) => values.map((y, i) => ({
    o: String(line.o), which: `${line.o} ${place}`, x: line.steps[i] * perStep(data, state.axis, line.o), y,
  })))).filter((row) => row.y !== null && row.y > 0 && (!state.log || row.x > 0));
  const hair = { type: "line", clip: true, strokeWidth: 0.7, opacity: 0.5 };
  const [drawn, back] = split(rows.filter((row) => row.y !== null), state);
  const spec = frame([
    behind(back, { x, y }),
    layer(chart.targets.map((value) => ({ y: value })), { type: "rule", stroke: "var(--soft)", strokeDash: [3, 2], strokeWidth: 0.8, opacity: 0.55 }, { y }),
    layer(few(lines, state) ? split(rows, state)[0] : [], { type: "area", clip: true, opacity: 0.15 }, { x, y: { ...y, field: "low" }, y2: { field: "high" }, color }),
    layer(thin("seeds"), hair, { x, y, color, detail: { field: "which" } }),
    layer(each.length === 1 ? thin("others") : [], { ...hair, opacity: 0.8, strokeDash: [2, 2] }, { x, y, color, detail: { field: "which" } }),
    layer(drawn, { type: "line", clip: true, strokeWidth: 1.8, strokeJoin: "round" }, { x, y, color, strokeDash }),
    layer(drawn.filter((row) => row.marked), { type: "point", size: 38, strokeWidth: 1.2 }, { x, y, stroke: color, fill, shape }),
    layer(split(lost, state)[0], { type: "point", shape: CROSS, size: 40, strokeWidth: 1.6 }, { x, y: pixel("y"), stroke: color }),
  ]);
  const read = (at) => lines.map((line) => {
    const factor = perStep(data, state.axis, line.o);
    let i = line.x.findLastIndex((step) => step * factor <= at * (1 + 1e-9));
    if (i < 0) return null;
    if (i === line.x.length - 1 && at > line.x[i] * factor * 1.02) return { o: line.o, value: null, text: "ended" };
    return { o: line.o, cell: line.cell, value: line.y[i], text: spread(line.y[i], line.low[i], line.high[i], chart.percent) };
  });
  const stops = [...new Set(rows.map((row) => row.x))].sort((a, b) => a - b);
  return { spec, read, stops, label: chart.label, title: (at) => `${short(at)} ${AXES[state.axis]}` };
}

/** Final value at every learning rate; what was lost, in a strip along the top. */
function rates(chart, state) {
  const lines = chart.lines.filter((line) => !state.hidden.has(line.o));
  const swept = lines.filter((line) => line.x.every((x) => x !== null));
  const losing = swept.filter((line) => lit(line.o, state) && line.lost.some((count) => count > 0));
  const row = losing.length ? Math.min(12, 60 / losing.length) : 0;
  const strip = row * losing.length;
  const [bottom, top] = chart.span;
  const rows = [], joins = [], crosses = [];
  swept.forEach((line, place) => {
    const aside = 10 ** (Math.min(0.018, 0.1 / lines.length) * (place - (lines.length - 1) / 2));
    const inside = line.y.map((y) => y !== null && y <= top);
    const height = row * (losing.indexOf(line) + 0.5);
    line.x.forEach((x, i) => {
      const o = String(line.o);
      const beyond = line.y[i] !== null && !inside[i];
      rows.push({ o, joined: !line.also, x: x * aside, y: inside[i] ? Math.max(line.y[i], bottom) : null, beyond, best: x === line.best,
        low: inside[i] ? Math.max(line.low[i] ?? top, bottom) : null, high: inside[i] ? Math.min(line.high[i] ?? top, top) : null });
      if (line.lost[i] && losing.includes(line)) crosses.push({ o, x: x * aside, y: height, size: 2 * line.lost[i] < line.lanes[i] ? 14 : 34 });
      if (i && inside[i] !== inside[i - 1] && !line.also) {
        const end = (k) => (inside[k] ? Math.max(line.y[k], bottom) : top);
        joins.push({ o, x: line.x[i - 1] * aside, x2: x * aside, y: end(i - 1), y2: end(i) });
      }
    });
  });
  const level = lines.filter((line) => !swept.includes(line) && line.y[0] !== null).map((line) => ({ o: String(line.o), y: line.y[0] }));
  const grid = swept.flatMap((line) => line.x);
  const ends = grid.length ? [Math.min(...grid), Math.max(...grid)] : [1e-4, 1];
  const x = {
    field: "x", type: "quantitative", title: "learning rate",
    scale: { type: "log", domain: [ends[0] / 1.3, ends[1] * 1.3], nice: false },
    axis: { values: powers(ends), labelExpr: "tick(datum.value)", labelOverlap: true },
  };
  const axis = logAxis(chart, null);
  const y = { field: "y", type: "quantitative", ...axis, scale: { ...axis.scale, range: [{ expr: "height" }, strip] } };
  const [shown, back] = split(rows, state);
  const inside = shown.filter((row) => row.y !== null);
  const joined = (some) => some.filter((row) => row.joined); // a line through trials that differ in more would say nothing
  const point = { type: "point", size: 34, strokeWidth: 1.2 };
  const spec = frame([
    layer(strip ? [{}] : [], { type: "rect", fill: "var(--raised)", x: 0, x2: "width", y: 0, y2: strip }, {}),
    behind(joined(back), { x, y }, { invalid: "break-paths-filter-domains" }),
    layer(back.filter((row) => !row.joined && row.y !== null), { type: "point", size: 12, fill: "var(--dim)", stroke: "var(--dim)" }, { x, y }),
    layer(joined(shown), { type: "line", strokeWidth: 1.6, invalid: "break-paths-filter-domains" }, { x, y, color, strokeDash }),
    layer(inside, { type: "rule", strokeWidth: 1.1, opacity: 0.65 }, { x, y: { ...y, field: "low" }, y2: { field: "high" }, color }),
    layer(split(joins, state)[0], { type: "rule", strokeWidth: 1, strokeDash: [1, 2] }, { x, x2: { field: "x2" }, y, y2: { field: "y2" }, color }),
    layer(split(level, state)[0], { type: "rule", strokeWidth: 1.4 }, { y, color, strokeDash }),
    layer(inside, point, { x, y, stroke: color, fill, shape }),
    layer(inside.filter((row) => row.best), { ...point, shape: "circle", size: 150, filled: false }, { x, y, stroke: color }),
    layer(shown.filter((row) => row.beyond), { ...point, shape: "triangle-up", y: strip + 4, fill: "var(--paper)" }, { x, stroke: color }),
    layer(crosses, { ...point, shape: CROSS }, { x, y: pixel("y"), size: pixel("size"), stroke: color }),
  ]);
  const stops = [...new Set(grid)].sort((a, b) => a - b);
  const read = (at) => swept.map((line) => {
    const i = line.x.findIndex((rate) => Math.abs(Math.log(rate / at)) < 0.02);
    if (i < 0) return null;
    const more = (line.also?.[i] ? `, ${line.also[i]}` : "") + (line.lost[i] ? `, ${line.lost[i]} of ${line.lanes[i]} lost` : "");
    return { o: line.o, cell: line.cells[i], rate: line.x[i], value: line.y[i], text: spread(line.y[i], line.low[i], line.high[i], chart.percent) + more };
  });
  return { spec, read, stops, label: `final ${chart.label}`, title: (at) => `learning rate ${short(at)}` };
}

/** A share of problems or targets that grows along x. */
function shares(lines, state, { title, label, name, domain, format }) {
  const shown = lines.filter((line) => !state.hidden.has(line.o));
  const rows = shown.flatMap((line, place) => {
    const markers = marked(line.x.length, place, shown.length);
    return line.x.map((x, i) => ({ o: String(line.o), x, y: line.y[i], low: line.low?.[i], high: line.high?.[i], marked: markers.has(i) }));
  });
  const x = { field: "x", type: "quantitative", title, scale: { type: "log", domain, nice: false }, axis: format };
  const y = { field: "y", type: "quantitative", title: null, scale: { domain: [0, 1.02], nice: false }, axis: { values: [0, 0.25, 0.5, 0.75, 1], format: ".0%" } };
  const [front, back] = split(rows, state);
  const spec = frame([
    behind(back, { x, y }, { interpolate: "step-after" }),
    layer(few(shown, state) && lines.some((line) => line.low) ? front : [], { type: "area", clip: true, opacity: 0.13, interpolate: "step-after" }, { x, y: { ...y, field: "low" }, y2: { field: "high" }, color }),
    layer(front, { type: "line", clip: true, strokeWidth: 1.8, interpolate: "step-after" }, { x, y, color, strokeDash }),
    layer(front.filter((row) => row.marked), { type: "point", size: 34, strokeWidth: 1.2 }, { x, y, stroke: color, fill, shape }),
  ]);
  const read = (at) => shown.map((line) => {
    const i = line.x.findLastIndex((value) => value <= at * (1 + 1e-9));
    return i < 0 ? null : { o: line.o, value: -line.y[i], text: `${Math.round(100 * line.y[i])}%` };
  });
  return { spec, read, stops: shown[0]?.x ?? [], label, title: name };
}

const profiles = (data, state) => shares(data[state.axis] ?? [], state, {
  title: `${AXES[state.axis]} to the main target, over the fastest`, label: "share of problems solved", domain: [1, 4],
  format: { values: [1, 1.5, 2, 3, 4], format: "~r" }, name: (at) => `within ${short(at)} times the fastest`,
});
const reached = (data, state) => shares(data[state.axis] ?? [], state, {
  title: `share of the ${AXES[state.axis]}`, label: "share of targets reached", domain: [1e-3, 1],
  format: { values: [1e-3, 1e-2, 1e-1, 1], format: "~%" }, name: (at) => `after ${short(100 * at)}% of the budget`,
});

/** The best of k trials: how much tuning is worth. */
function trials(chart, state) {
  const [bottom, top] = chart.span;
  const lines = chart.lines.filter((line) => !state.hidden.has(line.o));
  const rows = lines.flatMap((line) => line.x.map((x, i) => ({
    o: String(line.o), x, y: line.y[i] !== null && line.y[i] <= top ? Math.max(line.y[i], bottom) : null,
    low: Math.max(line.low[i] ?? top, bottom), high: Math.min(line.high[i] ?? top, top),
  })));
  const most = Math.max(2, ...rows.map((row) => row.x));
  const x = { field: "x", type: "quantitative", title: "trials", scale: { domain: [0.8, most + 0.2], nice: false }, axis: { format: "d", tickCount: Math.min(most, 10) } };
  const y = { field: "y", type: "quantitative", ...logAxis(chart, null) };
  const [drawn, back] = split(rows.filter((row) => row.y !== null), state);
  const spec = frame([
    behind(back, { x, y }),
    layer(few(lines, state) ? drawn : [], { type: "area", clip: true, opacity: 0.13 }, { x, y: { ...y, field: "low" }, y2: { field: "high" }, color }),
    layer(drawn, { type: "line", strokeWidth: 1.7 }, { x, y, color, strokeDash }),
    layer(drawn, { type: "point", size: 30, strokeWidth: 1.2 }, { x, y, stroke: color, fill, shape }),
  ]);
  const read = (at) => lines.map((line) => {
    const i = line.x.indexOf(at);
    return i < 0 ? null : { o: line.o, value: line.y[i], text: spread(line.y[i], line.low[i], line.high[i], chart.percent) };
  });
  return { spec, read, stops: [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b), label: `best ${chart.label}`, title: (at) => `best of ${at} trial${at > 1 ? "s" : ""}` };
}

/** Paths over contours; reading off moves along the steps. */
function paths(terrain, state) {
  const [shown] = split(terrain.paths.filter((path) => !state.hidden.has(path.o)), state);
  const contours = terrain.contours.flatMap(([x, y], line) => x.map((_, step) => ({ line, step, x: x[step], y: y[step] })));
  const rows = shown.flatMap((path) => path.steps.map((step, i) => ({ o: String(path.o), step, x: path.x[i], y: path.y[i] })));
  const axis = (field, [low, high]) => ({ field, type: "quantitative", title: field, scale: { domain: [low, high], nice: false, zero: false }, axis: { grid: false, tickCount: 5, domain: true } });
  const [x, y] = [axis("x", terrain.window[0]), axis("y", terrain.window[1])];
  const order = { field: "step", type: "quantitative" }; // as they go, not from left to right
  const place = ([a, b]) => [{ x: a, y: b }];
  const spec = frame([
    layer(contours, { type: "line", clip: true, stroke: "var(--line)", strokeWidth: 0.9 }, { x, y, detail: { field: "line" }, order }),
    layer(rows, { type: "line", clip: true, strokeWidth: 1.8, strokeJoin: "round" }, { x, y, color, strokeDash, order }),
    layer(rows.filter((row) => terrain.stations.includes(row.step)), { type: "point", clip: true, size: 44, strokeWidth: 1.2 }, { x, y, stroke: color, fill, shape }),
    layer(place(terrain.start), { type: "point", shape: "circle", size: 80, fill: "var(--paper)", stroke: "var(--ink)", strokeWidth: 1.4 }, { x, y }),
    layer(place(terrain.minimum), { type: "point", shape: STAR, size: 260, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 0.8 }, { x, y }),
  ]);
  const stops = [...new Set(shown.flatMap((path) => path.steps))].sort((a, b) => a - b);
  const at = (path, step) => path.steps.findLastIndex((other) => other <= step);
  const read = (step) => shown.map((path) => {
    const i = at(path, step);
    return { o: path.o, value: path.height[i], text: short(path.height[i]) + (i === path.steps.length - 1 ? ` after ${path.steps[i]}` : "") };
  });
  const dots = (step) => shown.map((path) => [path.x[at(path, step)], path.y[at(path, step)], path.o]);
  return { spec, read, stops, dots, label: "every optimizer at its best learning rate", title: (step) => `after ${short(step)} steps: loss` };
}

/** A result against its cost; those that no other beats in both are joined and named. */
function pareto(chart, state) {
  const rows = chart.points.filter((point) => !state.hidden.has(point.o)).map((point) => ({ ...point, y: Math.min(point.y, chart.scale?.span[1] ?? Infinity), o: String(point.o), name: looks[point.o].name }));
  let best = Infinity;
  const front = [...rows].sort((a, b) => a.x - b.x || a.y - b.y).filter((row) => row.y < best && ((best = row.y), true));
  const ends = [Math.min(...rows.map((row) => row.x)), Math.max(...rows.map((row) => row.x))];
  const x = {
    field: "x", type: "quantitative", title: chart.x,
    scale: { type: "log", domain: [ends[0] / 1.2, ends[1] * 1.2], nice: false }, axis: { tickCount: 4, labelExpr: "tick(datum.value)", labelOverlap: true },
  };
  const y = { field: "y", type: "quantitative", ...(chart.scale ? logAxis(chart.scale, null) : { title: null, scale: { zero: false, padding: 14 } }) };
  const [shown, back] = split(rows, state);
  const spec = frame([
    layer(front, { type: "line", interpolate: "step-after", stroke: "var(--soft)", strokeWidth: 1, strokeDash: [3, 2] }, { x, y }),
    layer(shown, { type: "rule", clip: true, strokeWidth: 1.1, opacity: 0.65 }, { x, y: { ...y, field: "low" }, y2: { field: "high" }, color }),
    layer(back, { type: "point", size: 26, fill: "var(--dim)", stroke: "var(--dim)" }, { x, y }),
    layer(shown, { type: "point", size: 44, strokeWidth: 1.2 }, { x, y, stroke: color, fill, shape }),
    ...["left", "right"].map((align) => layer(
      apart(front, x.scale.domain, chart.scale?.span ?? [0, Math.max(...rows.map((row) => row.y))], state).filter((row) => row.align === align),
      { type: "text", align, baseline: "bottom", dx: align === "left" ? 5 : -5, dy: -4, fill: "var(--ink)", fontSize: 11, limit: 130 },
      { x, y, text: { field: "name" } },
    )),
  ]);
  const near = (at) => rows.filter((row) => Math.abs(Math.log(row.x / at)) < 0.03);
  const read = (at) => near(at).map((row) => ({ o: Number(row.o), value: row.y, text: `${spread(row.y, row.low, row.high, chart.scale?.percent)} at ${short(row.x)}` }));
  return { spec, read, stops: [...new Set(rows.map((row) => row.x))].sort((a, b) => a - b), label: chart.label, title: (at) => `${chart.x} about ${short(at)}` };
}

/** The points of a front whose names are written: those that cover no other, each on the side where it does not leave the chart. */
function apart(points, [low, high], [bottom, top], { large }) {
  const [width, height] = large ? [1100, 600] : [330, 150]; // roughly what a chart has
  const place = bottom > 0 ? (y) => Math.log(y / bottom) / Math.log(top / bottom) : (y) => y / top; // ranks have no log axis
  const taken = [];
  return [...points].reverse().flatMap((row) => { // the best result first
    const align = row.x ** 2 > low * high ? "right" : "left";
    const x = (width * Math.log(row.x / low)) / Math.log(high / low) + (align === "left" ? 5 : -5);
    const [y, wide] = [height * place(row.y), Math.min(130, 6.2 * row.name.length)];
    const box = align === "left" ? [x, x + wide, y] : [x - wide, x, y];
    if (taken.some(([left, right, at]) => left < box[1] && box[0] < right && Math.abs(at - y) < 13)) return [];
    taken.push(box);
    return [{ ...row, align }];
  });
}

/** The powers of ten in a range. */
function powers([low, high]) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power += 1) found.push(10 ** power);
  return found;
}

/** A number in three digits. */
function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e6) return Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
  return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
}

/** A median with its interval. */
function spread(middle, low, high, percent) {
  const text = (value) => (value === null ? "failed" : percent ? `${short(100 * value)}%` : short(value));
  if (middle === null) return "failed";
  return low === high ? text(middle) : `${text(middle)} [${text(low)}, ${text(high)}]`;
}

const kinds = { progress, rates, trials, paths, profiles, reached, pareto };
const logarithmic = new Set(["rates", "profiles", "reached", "pareto"]);
