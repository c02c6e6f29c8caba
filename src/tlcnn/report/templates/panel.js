// ---- the panel of a cell and its runs ------------------------------------------------------------
const panel = document.getElementById("panel");

function openPanel(what) {
  const at = what.indexOf(":"), kind = what.slice(0, at), key = what.slice(at + 1);
  document.getElementById("tip").hidden = true;
  if (kind === "cell" && Object.hasOwn(data.cells, key)) showCell(data.cells[key]);
  else if (kind === "run") showRun(Number(key));
  else return;
  if (!panel.open) panel.showModal();
  panel.querySelector(".dialog-body").scrollTop = 0;
  document.getElementById("panel-title").focus();
}

function fillPanel(title, line, ...body) {
  document.getElementById("panel-title").textContent = title;
  panel.querySelector(".dialog-head p").textContent = line;
  panel.querySelector(".dialog-body").replaceChildren(...body.filter(Boolean));
}

function showCell(cell) {
  const place = make("div", {});
  const tabs = make("div", { class: "tabs", role: "group", "aria-label": "Runs of this cell" });
  const show = (number) => {
    [...tabs.children].forEach((tab, at) => tab.setAttribute("aria-current", String(cell.runs[at] === number)));
    place.replaceChildren(...describeRun(number));
  };
  for (const number of cell.runs) {
    const run = data.runs[number];
    const tab = make("button", { type: "button", class: "plain" }, run ? `seed ${run.seed} · ${run.scores[0][1]}` : `run ${number + 1}`);
    tab.addEventListener("click", () => show(number));
    tabs.append(tab);
  }
  fillPanel(cell.label, cell.line,
    cell.note ? make("p", { class: "absent" }, cell.note) : null, tabs, place);
  if (cell.runs.length) show(cell.runs[0]);
  else place.append(make("p", { class: "absent" }, "The runs of this cell were not found."));
}

function showRun(number) {
  const run = data.runs[number];
  if (!run) return fillPanel(data.names[number] || "Run", "", ...describeRun(number));
  return fillPanel(run.name, `${run.state}, seed ${run.seed}, id ${run.id}`, ...describeRun(number));
}

function describeRun(number) {
  const run = data.runs[number];
  if (!run) return [make("p", { class: "absent" }, "This page has the details of some runs only. Those of this run are in its folder."), ...describeCommand(data.commands[number])];
  const warnings = [run.problem, ...(run.warnings || [])].filter(Boolean);
  return [
    warnings.length ? make("ul", { class: "warnings" }, ...warnings.map((line) => make("li", {}, line))) : null,
    run.units ? drawUnits(run.units) : null,
    make("h3", {}, "Learning curve"), ...describeCurves(run),
    make("h3", {}, "Test images: true by predicted class"), ...describeConfusion(run),
    make("div", { class: "two" },
      make("div", {}, make("h3", {}, "Scores"), makePairs(run.scores)),
      make("div", {}, make("h3", {}, "Settings that differ between runs"), ...describeSettings(run))),
    make("h3", {}, "Train it again"), ...describeCommand(run.command, run),
    make("h3", {}, "End of the log"),
    run.log ? make("pre", { tabindex: "0" }, run.log.join("\n")) : explain(run, "log"),
  ].filter(Boolean);
}

function explain(run, part) {
  return make("p", { class: "absent" }, `${NONE} ${(run.missing || {})[part] || "not recorded"}`);
}

function drawUnits(units) {
  const marks = units.map(([name, moved, frozen]) => {
    const words = `${moved ? "transferred" : "fresh"}, ${frozen ? "frozen" : "trained"}`;
    return make("span", { class: `${moved ? "moved" : ""} ${frozen ? "frozen" : ""}`, title: words }, name, make("span", { class: "unseen" }, ` ${words}`), frozen ? " ❄" : "");
  });
  return make("div", {}, make("div", { class: "units" }, ...marks),
    make("p", { class: "absent" }, "Units from the input on. Tinted units are transferred; units with ❄ are frozen."));
}

function describeSettings(run) {
  const own = run.settings.length ? [makePairs(run.settings)] : [make("p", { class: "absent" }, "None: all runs have the same settings.")];
  if (!data.shared.length) return own;
  return [...own, make("details", {}, make("summary", {}, `${data.shared.length} settings that all runs share`), make("div", { class: "inside" }, makePairs(data.shared)))];
}

function describeCommand(command, run) {
  const lines = command ? [make("div", { class: "command" }, make("pre", { tabindex: "0" }, command), copyButton(command))]
    : [make("p", { class: "absent" }, `${NONE} no record has the command that trained it`)];
  if (run && run.where) lines.push(make("p", { class: "absent" }, `It ran on ${run.where.join("; then ")}.`));
  if (run && run.typed && run.typed.join() !== command) lines.push(make("p", { class: "absent" }, "As typed: ", make("code", {}, run.typed.join(" ; "))));
  return lines;
}

// ---- curves --------------------------------------------------------------------------------------
const NAMES = { "train/loss": "training loss", "val/nll": "validation NLL", "val/balanced_accuracy": "validation balanced accuracy, %" };

function describeCurves(run) {
  const found = Object.entries(run.curves || {});
  if (!found.length) return [explain(run, "curve")];
  const curves = found.map(([name, values]) => drawCurve(NAMES[name] || name, run.epochs, name.endsWith("accuracy") ? values.map((v) => v === null ? null : 100 * v) : values, run.best));
  return [make("div", { class: "curves" }, ...curves)];
}

function drawCurve(name, epochs, values, best) {
  const [width, height, left, right, top, bottom] = [300, 172, 38, 8, 34, 22];
  const known = values.filter((value) => value !== null);
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const [first, last] = [epochs[0], epochs[epochs.length - 1]];
  const x = (epoch) => left + (last > first ? (epoch - first) / (last - first) : 0.5) * (width - left - right);
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);
  const form = (value) => Math.abs(value) >= 10 ? value.toFixed(1) : value.toPrecision(3);
  const points = epochs.map((epoch, at) => [epoch, values[at]]).filter(([, value]) => value !== null);
  const svg = draw("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${name} from ${form(points[0][1])} at epoch ${points[0][0]} to ${form(points[points.length - 1][1])} at epoch ${points[points.length - 1][0]}` });
  svg.append(draw("text", { class: "name", x: 0, y: 11 }, name),
    draw("path", { class: "frame", d: `M${left} ${top}V${height - bottom}H${width - right}` }),
    draw("text", { x: left - 5, y: top + 4, "text-anchor": "end" }, form(high)),
    draw("text", { x: left - 5, y: height - bottom + 2, "text-anchor": "end" }, form(low)),
    draw("text", { x: left, y: height - 6 }, `epoch ${first}`),
    draw("text", { x: width - right, y: height - 6, "text-anchor": "end" }, String(last)));
  if (best !== null && best !== undefined) {
    svg.append(draw("line", { class: "mark", x1: x(best), x2: x(best), y1: top, y2: height - bottom }),
      draw("text", { x: Math.min(Math.max(x(best), left + 16), width - 24), y: top - 4, "text-anchor": "middle" }, `chosen: ${best}`));
  }
  svg.append(draw("polyline", { class: "line", points: points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join(" ") }));
  if (points.length < 30) for (const [epoch, value] of points) svg.append(draw("circle", { class: "dot", cx: x(epoch).toFixed(1), cy: y(value).toFixed(1), r: 2.4 }));
  return svg;
}

// ---- confusion -----------------------------------------------------------------------------------
function describeConfusion(run) {
  const classes = data.classes[run.classes] || [];
  if (!run.confusion) {
    const known = classes.map((name, at) => [name, percent(run.recall[at])]);
    return [explain(run, "confusion"), known.length ? makePairs([["class", "recall"], ...known]) : null].filter(Boolean);
  }
  const head = make("tr", {}, make("td", {}), ...classes.map((name) => make("th", { scope: "col", title: name }, name)),
    make("th", { scope: "col" }, "recall"), make("th", { scope: "col" }, "images"));
  const rows = run.confusion.map((counts, truth) => {
    const total = counts.reduce((sum, n) => sum + n, 0);
    const cells = counts.map((n, at) => make("td", { class: at === truth ? "right" : null, style: `--t:${total ? Math.round((100 * n) / total) : 0}`,
      title: `${n} of ${total} ${classes[truth]} taken for ${classes[at]}` }, String(n)));
    return make("tr", {}, make("th", { scope: "row", title: classes[truth] }, classes[truth]), ...cells,
      make("td", { class: "recall" }, total ? percent(counts[truth] / total) : NONE), make("td", { class: "total" }, String(total)));
  });
  return [make("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    make("table", { class: "confusion" }, make("caption", { class: "unseen" }, "Rows are true classes, columns predicted ones"), make("thead", {}, head), make("tbody", {}, ...rows)))];
}

function percent(value) {
  return value === null || value === undefined ? NONE : `${(100 * value).toFixed(1)} %`;
}

// ---- start ---------------------------------------------------------------------------------------
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-opens]");
  if (button) openPanel(button.dataset.opens);
});
panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
document.getElementById("close").addEventListener("click", () => panel.close());
setUpTheme();
setUpPrint();
for (const box of document.querySelectorAll(".tablebox")) setUpTable(box);
for (const table of document.querySelectorAll("table.grid")) setUpGrid(table);
