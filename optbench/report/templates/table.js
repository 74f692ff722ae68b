// The table of all optimizers: sorted by a click on a head, searched by name, rows selected; two of them are compared.

const table = document.getElementById("all-optimizers");
const rivals = document.getElementById("rivals");
const sorted = { by: 0, down: false };
const named = new URLSearchParams(); // the view, as the address of the page has it

/** The sort key of a row in a column; the names are the first column. */
const keyOf = (row, column) => {
  const cells = row.querySelectorAll("[data-key]");
  return column < 0 ? row.cells[0].textContent.trim() : Number(cells[column].dataset.key === "inf" ? Infinity : cells[column].dataset.key);
};

function sort(column, down) {
  Object.assign(sorted, { by: column, down });
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [one, other] = [keyOf(a, column), keyOf(b, column)];
    return (one < other ? -1 : one > other ? 1 : 0) * (down ? -1 : 1);
  });
  table.tBodies[0].append(...rows);
  table.querySelectorAll("thead th").forEach((head, place) => {
    head.ariaSort = place === column + 1 ? (down ? "descending" : "ascending") : "none";
  });
}

/** Only the rows whose name has every word that is searched for. */
function search(text) {
  const words = text.toLowerCase().split(/[\s,]+/);
  for (const row of table.tBodies[0].rows) row.hidden = !words.every((word) => row.cells[0].textContent.toLowerCase().includes(word));
}

const times = (log) => short(10 ** log);

/** The mean of log10(a / b) over the seeds that both have, with its t interval; as `stats.paired.compare`. */
function paired(a, b) {
  const seeds = Object.keys(a).filter((seed) => seed in b);
  const raw = seeds.map((seed) => {
    const [one, other] = [a[seed] ?? Infinity, b[seed] ?? Infinity];
    if (one === other) return 0;
    return one > 0 && other > 0 ? Math.log10(one) - Math.log10(other) : one < other ? -Infinity : Infinity;
  });
  const beyond = Math.max(0, ...raw.filter(Number.isFinite).map(Math.abs)) + 1;
  const gaps = raw.map((gap) => (Number.isFinite(gap) ? gap : Math.sign(gap) * beyond));
  const count = gaps.length;
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / count;
  const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / (count - 1));
  return { mean, half: count > 1 ? (page.quantiles[count] * deviation) / Math.sqrt(count) : Infinity, known: raw.every(Number.isFinite) };
}

/** Two optimizers side by side: on each task both numbers, their ratio over paired seeds, and what that says. */
function compare([one, other]) {
  rivals.hidden = other === undefined;
  if (rivals.hidden) return;
  const names = [looks[one].name, looks[other].name];
  const counts = {};
  const rows = page.problems.filter((problem) => problem.at[one] && problem.at[other]).map((problem) => {
    const [a, b] = [problem.at[one], problem.at[other]];
    const { mean, half, known } = paired(b.seeds, a.seeds);
    const sure = problem.exact ? mean !== 0 : Math.abs(mean) > half;
    const verdict = sure ? `${names[mean < 0 ? 1 : 0]} better` : "not distinguishable";
    const kind = problem.toy ? "toys" : "real tasks";
    ((counts[kind] ??= {})[verdict] ??= []).push(problem.name);
    const alike = a.reached === b.reached && Number.isInteger(a.reached); // steps or final values, not one over the other
    const ratio = !known || !alike ? "-" : times(mean) + (problem.exact || !Number.isFinite(half) ? "" : ` [${times(mean - half)}, ${times(mean + half)}]`);
    return [problem.name, problem.compared, a.text, b.text, ratio, verdict];
  });
  const said = Object.entries(counts).map(([kind, found]) => `${kind}: ${Object.entries(found).map(([verdict, where]) => `${verdict} on ${where.length}`).join(", ")}`);
  const cells = (tag, texts) => make("tr", {}, ...texts.map((textContent, place) => make(place ? tag : "th", { textContent, className: place < 2 ? "left" : "", ...(place && tag === "td" ? {} : { scope: tag === "th" ? "col" : "row" }) })));
  rivals.replaceChildren(
    make("h3", { textContent: `${names[0]} (baseline) and ${names[1]}` }),
    make("p", { textContent: `${said.join("; ")}. Ratio: ${names[1]} over ${names[0]}, seed by seed, the geometric mean with its 95 % t interval; below 1 is better. Where all lanes stop at the final target it counts steps; where only some do, there is none.` }),
    make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Two optimizers side by side" }, make("table", {},
      make("thead", {}, cells("th", ["task", "compared", ...names, "ratio", "verdict"])), make("tbody", {}, ...rows.map((row) => cells("td", row))))),
  );
}

/** The selected optimizers, in the order in which they were. */
function select(places) {
  state.picked = new Set(places);
  for (const row of table?.tBodies[0].rows ?? []) row.querySelector("input").checked = state.picked.has(Number(row.dataset.o));
  if (table) compare(places);
  redraw();
}

// --- the view in the address: #section&sort=..&find=..&pick=..&axis=..

const fields = ["axis", "metric", "problem"];
function remember() {
  const find = document.getElementById("find")?.value ?? "";
  const view = {
    sort: sorted.by || sorted.down ? (sorted.down ? "-" : "") + (sorted.by + 1) : "", find,
    pick: [...state.picked].map((place) => looks[place].name).join(" "),
    hide: [...state.hidden].map((place) => looks[place].name).join(" "), log: state.log ? 1 : "",
    ...Object.fromEntries(fields.map((name) => [name, new FormData(form).get(name) ?? ""])),
  };
  const usual = { axis: "steps", metric: "0" };
  for (const name of [...named.keys()]) named.delete(name);
  for (const [name, value] of Object.entries(view)) if (value !== "" && value !== usual[name]) named.set(name, value);
  const [section] = location.hash.split("&");
  history.replaceState(null, "", named.size ? `${section || "#"}&${named}` : section || location.pathname + location.search);
}

/** The view that an address gives. */
function recall() {
  const [section, ...rest] = location.hash.slice(1).split("&");
  const view = new URLSearchParams(rest.join("&"));
  const placesOf = (name) => (view.get(name) ?? "").split(" ").map((text) => looks.findIndex((look) => look.name === text)).filter((place) => place >= 0);
  for (const name of fields) if (view.has(name) && form.elements[name]) form.elements[name].value = view.get(name);
  form.elements.log.checked = view.has("log");
  const hidden = new Set(placesOf("hide"));
  for (const input of form.querySelectorAll("input[name=optimizer]")) input.checked = !hidden.has(Number(input.value));
  if (table) {
    document.getElementById("find").value = view.get("find") ?? "";
    search(view.get("find") ?? "");
    const by = Math.abs(Number(view.get("sort") ?? 1));
    sort(Math.min(Number.isNaN(by) ? 1 : by, table.tHead.rows[0].querySelectorAll("th").length - 1) - 1, (view.get("sort") ?? "").startsWith("-"));
  }
  apply();
  select(placesOf("pick"));
  if (section && rest.length) document.getElementById(section)?.scrollIntoView();
}

if (table) {
  table.querySelectorAll("thead th").forEach((head, place) => {
    const button = make("button", { type: "button", textContent: head.textContent, onclick: () => {
      sort(place - 1, sorted.by === place - 1 && !sorted.down);
      remember();
    } });
    head.replaceChildren(button);
  });
  for (const row of table.tBodies[0].rows) {
    const input = make("input", { type: "checkbox", ariaLabel: `Select ${looks[row.dataset.o].name}`, onchange: () => {
      const places = [...state.picked].filter((place) => place !== Number(row.dataset.o));
      select(input.checked ? [...places, Number(row.dataset.o)] : places);
      remember();
    } });
    row.cells[0].prepend(input);
  }
  const find = make("input", { type: "search", id: "find", placeholder: "Search by name", ariaLabel: "Search by name", oninput: () => { search(find.value); remember(); } });
  const clear = make("button", { type: "button", textContent: "Select none", onclick: () => { select([]); remember(); } });
  table.parentElement.before(make("div", { className: "search" }, find, clear, make("span", { className: "note", textContent: "Selected optimizers are in colour in every chart; the first two are compared below." })));
}
recall();
addEventListener("hashchange", () => (location.hash.includes("&") ? recall() : remember()));
