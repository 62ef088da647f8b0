"use strict";
// What a reader does with a report: point at figures, sort tables, save, copy, choose a theme.

const KEPT = "cep-report-theme";
const THEMES = ["system", "light", "dark"];

function chosenTheme() {
  try { return localStorage.getItem(KEPT) || "system"; } catch { return "system"; }
}

function showTheme(name) {
  const root = document.documentElement;
  if (name === "system") delete root.dataset.theme; else root.dataset.theme = name;
  document.getElementById("theme").textContent = `Theme: ${name}`;
}

document.getElementById("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || "system";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  try { localStorage.setItem(KEPT, next); } catch { /* a page from a file may keep nothing */ }
  showTheme(next);
});
showTheme(chosenTheme());

// ---- pointing at figures ----

const tip = document.getElementById("tip");
let pointed = null;

function showTip(mark, x, y) {
  if (pointed !== mark) {
    hideTip();
    pointed = mark;
    mark.classList.add("on");
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
  }
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
  const top = y + 14 + height > innerHeight ? y - 14 - height : y + 14;
  tip.style.setProperty("transform", `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`);
}

function hideTip() {
  if (pointed) pointed.classList.remove("on");
  pointed = null;
  tip.hidden = true;
}

document.addEventListener("pointermove", (event) => {
  const mark = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
  if (mark) showTip(mark, event.clientX, event.clientY); else if (event.pointerType === "mouse") hideTip();
});
document.addEventListener("pointerdown", (event) => {
  const mark = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
  if (mark) showTip(mark, event.clientX, event.clientY); else hideTip();
});
document.addEventListener("scroll", hideTip, { passive: true });

for (const drawing of document.querySelectorAll(".chart > svg")) {
  drawing.addEventListener("keydown", (event) => {
    const marks = [...drawing.querySelectorAll("[data-tip]")];
    const at = marks.indexOf(pointed);
    const next = { ArrowRight: at + 1, ArrowLeft: at < 0 ? marks.length - 1 : at - 1, Home: 0, End: marks.length - 1 }[event.key];
    if (event.key === "Escape") hideTip();
    if (next === undefined || !marks.length) return;
    event.preventDefault();
    const mark = marks[Math.min(Math.max(next, 0), marks.length - 1)];
    const box = mark.getBoundingClientRect();
    showTip(mark, box.left + box.width / 2, box.top + Math.min(box.height / 2, 40));
  });
  drawing.addEventListener("blur", hideTip);
}

// ---- sorting tables ----

function compare(one, other) {
  const [a, b] = [one, other].map((row) => row.dataset.sort);
  if (a === undefined || b === undefined) return null;
  const [x, y] = [Number(a), Number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  return a.localeCompare(b, "en", { numeric: true });
}

function sortBy(heading) {
  const table = heading.closest("table");
  const column = [...heading.parentElement.children].indexOf(heading);
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]];
    const order = compare(a, b);
    // what has no value comes last either way
    return order === null ? (a.dataset.sort === undefined) - (b.dataset.sort === undefined) : sign * order;
  });
  table.tBodies[0].append(...rows);
  for (const other of heading.parentElement.children) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
}

for (const heading of document.querySelectorAll("th")) {
  heading.querySelector("button").addEventListener("click", () => sortBy(heading));
  const column = [...heading.parentElement.children].indexOf(heading);
  const cells = [...heading.closest("table").tBodies[0].rows].map((row) => row.cells[column]);
  if (cells.length && cells.every((cell) => cell.classList.contains("number"))) heading.classList.add("number");
}

// ---- saving ----

function save(name, url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

function saveBlob(name, blob) {
  const url = URL.createObjectURL(blob);
  save(name, url);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// A copy of a figure that looks the same anywhere: what the style sheet says is written into it.
function standalone(drawing) {
  const copy = drawing.cloneNode(true);
  const [sources, targets] = [drawing, copy].map((root) => [...root.querySelectorAll("*")]);
  sources.forEach((source, number) => {
    const style = getComputedStyle(source);
    const names = [...source.attributes].filter((one) => one.value.includes("var(")).map((one) => one.name);
    if (source.tagName === "text") names.push("font-family", "font-size", "paint-order", "stroke", "stroke-width");
    for (const name of names) targets[number].setAttribute(name, style.getPropertyValue(name));
  });
  for (const strip of copy.querySelectorAll(".strip")) strip.remove();
  for (const part of copy.querySelectorAll("*")) {
    part.removeAttribute("class");
    part.removeAttribute("data-tip");
  }
  const { width, height } = drawing.viewBox.baseVal;
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.removeAttribute("tabindex");
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ground.setAttribute("width", "100%");
  ground.setAttribute("height", "100%");
  ground.setAttribute("fill", getComputedStyle(drawing.parentElement).backgroundColor);
  copy.prepend(ground);
  return new XMLSerializer().serializeToString(copy);
}

function savePng(name, drawing) {
  const scale = 3;
  const { width, height } = drawing.viewBox.baseVal;
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = document.createElement("canvas");
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => saveBlob(name, blob), "image/png");
  });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(drawing))}`;
}

function tableAsCsv(table) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const text = (cell) => quoted(cell.textContent.trim());
  return [...table.rows].map((row) => [...row.cells].map(text).join(",")).join("\n") + "\n";
}

for (const button of document.querySelectorAll("[data-save]")) {
  const kind = button.dataset.save;
  button.setAttribute("aria-label", `Save as ${kind.toUpperCase()}`);
  button.title = `Save as ${kind.toUpperCase()}`;
  button.addEventListener("click", () => {
    const figure = button.closest("figure");
    if (kind === "csv") {
      const table = figure.querySelector("table");
      saveBlob(`${table.dataset.name}.csv`, new Blob([tableAsCsv(table)], { type: "text/csv" }));
      return;
    }
    const drawing = figure.querySelector(":scope > svg");
    const name = `${figure.dataset.name}.${kind}`;
    if (!drawing) save(name, figure.querySelector("img").src);
    else if (kind === "svg") saveBlob(name, new Blob([standalone(drawing)], { type: "image/svg+xml" }));
    else savePng(name, drawing);
  });
}

// ---- copying commands ----

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
