const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const NONE = "–";

// Elements are made of text and attributes alone: what stands in the data can never be markup.
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function draw(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

async function copy(text, button) {
  const before = button.textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) { // not allowed here: the old way
    const area = make("textarea", { class: "unseen" });
    area.value = text;
    (button.closest("dialog") || document.body).append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = done ? "Copied" : "Not allowed here";
  setTimeout(() => { button.textContent = before; }, 1500);
}

function copyButton(text, name) {
  const button = make("button", { type: "button", class: "plain" }, name || "Copy");
  button.addEventListener("click", () => copy(text, button));
  return button;
}

// ---- light and dark ------------------------------------------------------------------------------
function storage() {
  try { return window.localStorage; } catch (error) { return null; } // forbidden: nothing is kept
}

function setUpTheme() {
  const button = document.getElementById("theme"), root = document.documentElement, store = storage();
  let chosen = null;
  try { chosen = store && store.getItem("tlcnn-theme"); } catch (error) { chosen = null; }
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  button.hidden = false;
  button.addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    root.dataset.theme = next;
    try { if (store) store.setItem("tlcnn-theme", next); } catch (error) { /* it is not kept */ }
  });
}

// ---- print ---------------------------------------------------------------------------------------
function setUpPrint() {
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const node of opened) node.open = true;
  });
  window.addEventListener("afterprint", () => { for (const node of opened) node.open = false; });
}
