// ---- tables: sort, filter, show more, copy -------------------------------------------------------
const FIRST = 12, STEP = 200; // rows that are shown at first, and further ones at a click

function setUpTable(box) {
  const table = box.querySelector("table"), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const kinds = heads.map((head) => head.dataset.kind), asides = heads.map((head) => head.classList.contains("aside"));
  const rows = [...body.rows].map((row) => readRow(row)).concat(
    (data.tables[box.dataset.table] || []).map((packed) => ({ packed, node: null, ...unpack(packed) })));
  rows.forEach((row, at) => { row.at = at; });
  const state = { rows, kinds, asides, box, body, shown: FIRST, column: null, falls: false };
  const tools = box.querySelector(".tools");
  tools.hidden = false;
  for (const field of tools.querySelectorAll("input, select")) {
    field.addEventListener("input", () => { state.shown = FIRST; showRows(state); });
  }
  tools.querySelector(".csv").addEventListener("click", (event) => copy(writeCsv(heads, state), event.currentTarget));
  box.querySelector(".more button").addEventListener("click", () => showMore(state));
  heads.forEach((head, column) => {
    const button = head.querySelector(".sort");
    if (button) button.addEventListener("click", () => sortBy(state, heads, column));
  });
  window.addEventListener("beforeprint", () => {
    state.shown = Math.max(state.shown, rows.length <= 2000 ? Infinity : STEP);
    showRows(state);
  });
  showRows(state);
}

function readRow(node) {
  const cells = [...node.cells];
  const texts = cells.map((cell, at) => readText(at ? cell : cell.firstElementChild || cell));
  const values = cells.map((cell, at) => cell.dataset.v !== undefined ? Number(cell.dataset.v) : (texts[at] === NONE || texts[at] === "" ? null : texts[at]));
  return { node, texts, values };
}

// Numbers stand before "%" with a no-break space; filters and CSV have an ordinary one.
function useSpaces(text) {
  return text.replaceAll("\u00a0", " ");
}

function readText(node) {
  return useSpaces(node.textContent).trim();
}

function unpack([cells]) {
  return { texts: cells.map((cell) => cell[0]), values: cells.map((cell) => cell[1]) };
}

// A row beyond the first ones: made when it is first shown.
function makeRow([cells, opens], { kinds, asides }, scale) {
  const row = make("tr", {});
  cells.forEach(([text, value, why, tone, bar, below], at) => {
    let content = text;
    if (at === 0 && opens) content = make("button", { type: "button", class: "opens", "data-opens": opens }, text);
    else if (kinds[at] === "verdict" && value !== null) content = make("span", { class: `badge ${tone}` }, text);
    else if (bar) content = makeBar(bar, scale);
    else if (text === NONE || text === "") content = make("span", { class: "none", title: why || null }, NONE);
    else if (why) content = make("span", { title: why }, text);
    else if (typeof value === "number" && text.includes("(")) content = splitInterval(text);
    const long = (kinds[at] === "code" && text.length > 40 ? " long" : kinds[at] === "text" && text.length > 24 ? " roomy" : "") + (asides[at] ? " aside" : "");
    row.append(at === 0 ? make("th", { scope: "row" }, content, below ? make("small", {}, below) : null) : make("td", { class: kinds[at] + long }, content));
  });
  return row;
}

function splitInterval(text) {
  const at = text.indexOf("("), parts = document.createDocumentFragment();
  parts.append(text.slice(0, at), make("span", { class: "whole" }, text.slice(at)));
  return parts;
}

function makeBar([low, point, high], [start, end, from, to]) {
  const x = (value) => Math.min(Math.max(((value - start) / (end - start)) * 170, 0), 170).toFixed(1);
  const arrows = [[low < start, "M0 13l6 -4v8z"], [high > end, "M170 13l-6 -4v8z"]].filter(([is]) => is);
  return draw("svg", { class: "forest", viewBox: "0 0 170 26", "aria-hidden": "true" },
    draw("rect", { class: "band", x: x(from), y: 3, width: x(start + to - from), height: 20 }),
    draw("line", { class: "zero", x1: x(0), x2: x(0), y1: 1, y2: 25 }),
    draw("line", { class: "range", x1: x(low), x2: x(high), y1: 13, y2: 13 }),
    ...arrows.map(([, d]) => draw("path", { class: "point", d })), draw("circle", { class: "point", cx: x(point), cy: 13, r: 4 }));
}

function isWanted(row, words, picks) {
  if (picks.some(([column, text]) => row.texts[column] !== text)) return false;
  if (!words.length) return true;
  const all = row.texts.join(" ").toLowerCase();
  return words.every((word) => all.includes(word));
}

function listWanted(state) {
  const field = state.box.querySelector("input"); // short tables have none
  const words = (field ? field.value : "").toLowerCase().split(/\s+/).filter(Boolean);
  const picks = [...state.box.querySelectorAll("select")].filter((s) => s.value).map((s) => [Number(s.dataset.column), useSpaces(s.value)]);
  return state.rows.filter((row) => isWanted(row, words, picks));
}

function showRows(state) {
  const wanted = listWanted(state), few = 4; // rows that are not worth a click
  const shown = wanted.slice(0, wanted.length - state.shown <= few ? wanted.length : state.shown);
  for (const row of shown) row.node = row.node || makeRow(row.packed, state, data.scales[state.box.dataset.table]);
  state.body.replaceChildren(...shown.map((row) => row.node));
  const { one, many } = state.box.dataset, total = state.rows.length;
  const count = (n) => n.toLocaleString("en");
  state.box.querySelector("output").textContent = wanted.length === total
    ? `${count(total)} ${total === 1 ? one : many}` : `${count(wanted.length)} of ${count(total)} ${many}`;
  const left = wanted.length - shown.length, more = state.box.querySelector(".more");
  more.hidden = left <= 0;
  more.firstElementChild.textContent = left <= STEP
    ? `Show all ${count(wanted.length)} ${many}` : `Show ${count(STEP)} more of the other ${count(left)}`;
}

// The button may be gone afterwards, so the first new row has the focus.
function showMore(state) {
  const first = state.body.rows.length;
  state.shown += STEP;
  showRows(state);
  const button = state.body.rows[first].querySelector("button");
  if (button) button.focus();
}

// What is missing stays last, whichever way a column is sorted.
function compare(a, b, column, falls) {
  const [x, y] = [a.values[column], b.values[column]];
  if (x === null || y === null) return (x === null) - (y === null) || a.at - b.at;
  const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  return (falls ? -order : order) || a.at - b.at;
}

function sortBy(state, heads, column) {
  state.falls = state.column === column ? !state.falls : false;
  state.column = column;
  heads.forEach((head, at) => {
    if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", at !== column ? "none" : state.falls ? "descending" : "ascending");
  });
  state.rows.sort((a, b) => compare(a, b, column, state.falls));
  showRows(state);
}

// A number, or one with its interval: `-1.0 (-2.0 to +1.0)`.
const NUMBER = /^[+-]?[\d.]+(?: \([+-]?[\d.]+ to [+-]?[\d.]+\))?$/;

function writeCsv(heads, state) {
  const quote = (text) => {
    const safe = /^[=+\-@\t\r]/.test(text) && !NUMBER.test(text) ? `'${text}` : text; // no formula in a spreadsheet
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const kept = heads.map((head, at) => at).filter((at) => state.kinds[at] !== "bar");
  const lines = [kept.map((at) => readText(heads[at])), ...listWanted(state).map((row) => kept.map((at) => row.texts[at]))];
  return lines.map((line) => line.map((text) => quote(text.replaceAll("−", "-"))).join(",")).join("\n") + "\n";
}

// ---- the grid's card -----------------------------------------------------------------------------
function setUpGrid(table) {
  const tip = document.getElementById("tip"), points = data.grids[Number(table.dataset.grid)];
  let shown = null;
  const hide = () => { tip.hidden = true; shown = null; };
  for (const cell of table.querySelectorAll(".cell")) {
    const show = () => { shown = cell; showTip(tip, cell, points[cell.dataset.point]); };
    cell.setAttribute("aria-haspopup", "dialog");
    cell.addEventListener("mouseenter", show);
    cell.addEventListener("focus", show);
    cell.addEventListener("mouseleave", hide);
    cell.addEventListener("blur", hide);
  }
  table.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); else moveFocus(table, event); });
  window.addEventListener("scroll", () => { if (shown && !tip.hidden) placeTip(tip, shown); }, { passive: true });
}

function moveFocus(table, event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const here = event.target.closest("td");
  if (!step || !here) return;
  const row = table.rows[here.parentNode.rowIndex + step[0]];
  const next = row && row.cells[here.cellIndex + step[1]];
  const button = next && next.querySelector("button");
  if (!button) return;
  event.preventDefault();
  button.focus();
}

function showTip(tip, cell, [title, pairs]) {
  tip.replaceChildren(make("strong", {}, title), makePairs(pairs));
  tip.hidden = false;
  placeTip(tip, cell);
}

function placeTip(tip, cell) {
  const at = cell.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), innerWidth - size.width - 8);
  const above = at.top - size.height - 10;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 60 ? above : at.bottom + 10}px`;
}

function makePairs(pairs) {
  return make("dl", { class: "pairs" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}
