"use strict";
// The server holds the truth. This page shows one state at a time, and keeps in the tab's own
// sessionStorage what was typed and not yet saved, so that a reload or a conflict loses nothing.

const token = new URLSearchParams(location.search).get("token");
const $ = (id) => document.getElementById(id);
const POLL_MS = 2000;

let overview = { states: [], total: 0, answered: 0 };
let current = null; // the state as the server described it
let chosen = null; // name of the chosen primitive
let busy = false;
let offline = "";
let remark = "";

async function call(path, body) {
  const options = { headers: { "X-Cep-Token": token } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw { status: 0, error: "The server does not answer. Start it again: cep annotate serve. What you typed is kept in this tab." };
  }
  const value = await response.json();
  if (!response.ok) throw { status: response.status, ...value };
  return value;
}

// ---- drafts ------------------------------------------------------------------------------------

const draftKey = (id) => `cep-draft-${id}`;
const isDirty = () => current !== null && ($("text").value !== current.shown.text || chosen !== current.shown.primitive);

function keepDraft() {
  if (current === null) return;
  if (isDirty()) {
    const draft = { text: $("text").value, primitive: chosen };
    sessionStorage.setItem(draftKey(current.id), JSON.stringify(draft));
  } else {
    sessionStorage.removeItem(draftKey(current.id));
  }
}

// ---- showing -----------------------------------------------------------------------------------

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function showProgress() {
  $("title").textContent = overview.title || "cep annotate";
  $("bar").value = overview.answered;
  $("bar").max = Math.max(overview.total, 1);
  $("progress").textContent = `${overview.answered} of ${overview.total} answered`;
  $("undo").disabled = !overview.undo;
  const lines = [offline, remark, overview.notice, overview.frames].filter(Boolean);
  for (const defect of overview.defects || []) {
    lines.push(`Line ${defect.line} of the file: ${defect.message} ${defect.hint} It was left as it is.`);
  }
  const said = lines.join("\n");
  if ($("notices").dataset.said === said) return;
  $("notices").dataset.said = said;
  $("notices").replaceChildren(...lines.map((line) => element("p", line)));
}

function choose(name) {
  chosen = name;
  for (const button of $("primitives").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === name));
  }
  keepDraft();
}

const SOURCES = { person: "A person's answer.", import: "Imported.", auto: "Suggested by rules." };

function showState(state) {
  current = state;
  const number = overview.states.findIndex((row) => row.id === state.id) + 1;
  $("place").textContent = `${number}/${overview.total}`;
  $("env").textContent = state.env;
  $("goal").textContent = state.goal;
  $("features").tBodies[0].replaceChildren(...state.features.map(featureRow));
  $("primitives").replaceChildren(...state.primitives.map(primitiveItem));
  $("source").textContent = SOURCES[state.shown.source];
  $("conflict").hidden = true;
  const draft = JSON.parse(sessionStorage.getItem(draftKey(state.id)) || "null");
  $("text").value = (draft || state.shown).text;
  choose((draft || state.shown).primitive);
  document.body.dataset.state = state.id;
  document.body.dataset.answered = state.answered;
  showFrame(state.id);
  history.replaceState(null, "", `?token=${encodeURIComponent(token)}#${state.id}`);
}

function featureRow(feature) {
  const row = element("tr");
  const value = Number(feature.value).toFixed(3);
  row.append(element("td", feature.name), element("td", value), element("td", feature.unit), element("td", feature.meaning));
  return row;
}

function primitiveItem(primitive, index) {
  const item = element("li");
  const button = element("button", "", { type: "button", "data-name": primitive.name });
  if (index < 10) button.append(element("kbd", String((index + 1) % 10)), " ");
  button.append(primitive.name, " ", element("small", primitive.meaning));
  button.addEventListener("click", () => choose(primitive.name));
  item.append(button);
  return item;
}

async function showFrame(id) {
  const image = $("frame");
  let reason = overview.frames;
  if (!reason) {
    $("noframe").hidden = !image.hidden;
    $("noframe").textContent = "Drawing …";
    $("noframe").className = "coming";
    const response = await fetch(`frame/${id}`, { headers: { "X-Cep-Token": token } }).catch(() => null);
    if (current.id !== id) return;
    if (response && response.ok) {
      URL.revokeObjectURL(image.src);
      image.src = URL.createObjectURL(await response.blob());
      image.alt = `The simulator's picture of state ${id}`;
    } else {
      reason = response ? (await response.json()).error : "";
    }
  }
  image.hidden = Boolean(reason);
  $("noframe").hidden = !reason;
  $("noframe").textContent = reason;
  $("noframe").className = "";
}

// ---- talking to the server ---------------------------------------------------------------------

async function refresh() {
  overview = await call("api/overview");
  offline = "";
  showProgress();
}

async function open(id) {
  keepDraft();
  showState(await call(`api/state/${id}`));
}

async function poll() {
  try {
    await refresh();
    const row = current && overview.states.find((each) => each.id === current.id);
    // a conflict that is on the screen waits for its answer
    if (row && row.revision !== current.revision && $("conflict").hidden && !busy) {
      const newer = await call(`api/state/${current.id}`);
      if (isDirty()) showConflict(newer);
      else showState(newer);
    }
  } catch (problem) {
    offline = problem.error || String(problem);
    showProgress();
  }
  setTimeout(poll, POLL_MS);
}

function showConflict(newer) {
  $("theirs").textContent = `${newer.shown.text} → ${newer.shown.primitive}`;
  $("conflict").newer = newer;
  // the focus stays where somebody may be typing: the next key must not choose
  $("conflict").hidden = false;
}

async function save() {
  const { id, revision } = current;
  const answer = { text: $("text").value, primitive: chosen };
  try {
    const saved = await call("api/answer", { state: id, revision, ...answer });
    sessionStorage.removeItem(draftKey(id));
    current.shown = { ...answer, source: "person" };
    await refresh();
    remark = saved.next ? "" : "Every state is answered. You can close the page, or look through them with the arrow keys.";
    $("text").blur();
    await open(saved.next || id);
  } catch (problem) {
    if (problem.status !== 409) throw problem;
    showConflict(await call(`api/state/${id}`));
  }
}

async function undo() {
  const { state, undone } = await call("api/undo", {});
  // what was undone stays in the form, so that it can be mended and saved again
  sessionStorage.setItem(draftKey(state), JSON.stringify(undone));
  remark = "Undone. The answer is back in the form, not in the file.";
  await refresh();
  if (current.id === state) showState(await call(`api/state/${state}`));
  else await open(state);
}

function neighbour(step) {
  const ids = overview.states.map((row) => row.id);
  const place = ids.indexOf(current.id);
  return open(ids[(place + step + ids.length) % ids.length]);
}

function skip() {
  const rows = overview.states;
  const place = rows.findIndex((row) => row.id === current.id);
  const later = [...rows.slice(place + 1), ...rows.slice(0, place)].find((row) => !row.answered);
  return later ? open(later.id) : neighbour(1);
}

async function act(action) {
  if (busy || current === null) return;
  setBusy(true);
  remark = "";
  try {
    await action();
  } catch (problem) {
    const said = [problem.error || String(problem), problem.hint].filter(Boolean).join(" ");
    if (problem.status === 0) offline = said; // until the next poll succeeds
    else remark = said;
  }
  setBusy(false);
  showProgress();
}

// a key pressed meanwhile is dropped, but a choice between two answers must not be
function setBusy(now) {
  busy = now;
  for (const id of ["keep-theirs", "use-mine"]) $(id).disabled = now;
}

// ---- keyboard and buttons ----------------------------------------------------------------------

const ACTIONS = {
  Enter: save,
  s: skip,
  u: undo,
  e: async () => $("text").focus(),
  ArrowLeft: () => neighbour(-1),
  ArrowRight: () => neighbour(1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.isComposing) return;
  const typing = document.activeElement === $("text");
  const digit = /^Digit\d$/.test(event.code) ? event.code.slice(5) : /^\d$/.test(event.key) ? event.key : null;
  if (digit !== null && (event.altKey || !typing)) {
    const button = $("primitives").querySelectorAll("button")[(Number(digit) + 9) % 10];
    if (button) choose(button.dataset.name);
    event.preventDefault();
    return;
  }
  if (typing && event.key === "Escape") $("text").blur();
  // with a button in focus, Enter presses that button
  const pressing = document.activeElement instanceof HTMLButtonElement && event.key === "Enter";
  const wanted = pressing || event.altKey || (typing && event.key !== "Enter") || event.shiftKey;
  if (wanted || !(event.key in ACTIONS)) return;
  event.preventDefault();
  act(ACTIONS[event.key]);
});

// after a click, Enter means "save" again, not the button that was clicked
document.addEventListener("click", (event) => {
  if (event.detail > 0 && event.target.closest("button")) document.activeElement.blur();
});

$("text").addEventListener("input", keepDraft);
$("save").addEventListener("click", () => act(save));
$("skip").addEventListener("click", () => act(skip));
$("undo").addEventListener("click", () => act(undo));
$("back").addEventListener("click", () => act(() => neighbour(-1)));
$("forward").addEventListener("click", () => act(() => neighbour(1)));
$("keep-theirs").addEventListener("click", () => act(async () => {
  sessionStorage.removeItem(draftKey(current.id));
  showState($("conflict").newer);
}));
$("use-mine").addEventListener("click", () => act(async () => {
  current.revision = $("conflict").newer.revision;
  $("conflict").hidden = true;
  await save();
}));

async function start() {
  try {
    await refresh();
    const wanted = location.hash.slice(1);
    const rows = overview.states;
    const first = rows.find((row) => row.id === wanted) || rows.find((row) => !row.answered) || rows[0];
    if (first) await open(first.id);
    else remark = "There are no states here.";
  } catch (problem) {
    offline = problem.error || String(problem);
  }
  showProgress();
  setTimeout(poll, POLL_MS);
}

start();
