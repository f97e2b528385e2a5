// What makes the console quick. Every page works without this file: forms post and redirect. With it,
// parts are swapped in place, news arrive by themselves, and buttons that do harm must be held.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const still = matchMedia("(prefers-reduced-motion: reduce)");
const environment = document.body.dataset.environment;

// ---- Words: the same as the server writes ----

const counted = (count, unit) => `${count} ${unit}${count === 1 ? "" : "s"}`;

/** `14 minutes`: what is over is counted in whole units. */
function lasting(ms) {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  if (seconds < 60) return counted(seconds, "second");
  if (seconds < 3600) return counted(Math.floor(seconds / 60), "minute");
  if (seconds < 86400) return counted(Math.floor(seconds / 3600), "hour");
  return counted(Math.floor(seconds / 86400), "day");
}

/** `3 h 59 min`: what is ahead is rounded to the nearest minute, or hour, so that it never sounds an hour too near. */
function ahead(ms) {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 60) return counted(seconds, "second");
  const minutes = Math.floor((seconds + 30) / 60);
  if (minutes < 60) return counted(minutes, "minute");
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  const hours = Math.floor((minutes + 30) / 60);
  return `${counted(Math.floor(hours / 24), "day")}${hours % 24 ? ` ${hours % 24} h` : ""}`;
}

function relative(at, now = Date.now()) {
  if (at > now) return `in ${ahead(at - now)}`;
  return now - at < 10000 ? "just now" : `${lasting(now - at)} ago`;
}

function elapsed(ms) {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

function tickTimes() {
  for (const time of $$("time[data-ago]")) {
    const at = Date.parse(time.dateTime);
    const words = time.dataset.ago === "for" ? `for ${lasting(Date.now() - at)}` : relative(at);
    if (time.textContent !== words) time.textContent = words;
    if (!time.dataset.local) {
      time.dataset.local = "1";
      time.title = `${time.title} (here: ${new Date(at).toLocaleString()})`;
    }
  }
  for (const node of $$("[data-until]")) {
    const { from, until } = node.dataset;
    const share = Math.max(0, Math.min(99, Math.floor((Date.now() - from) * 100 / Math.max(1, until - from))));
    if (node.tagName === "rect") node.setAttribute("width", share);
    else node.textContent = `${share}\u202f%`;
  }
  for (const node of $$("[data-left]")) node.textContent = elapsed(Math.max(0, Number(node.dataset.left) - Date.now()));
  for (const node of $$("[data-since]")) node.textContent = elapsed(Date.now() - Number(node.dataset.since));
}
setInterval(tickTimes, 1000);

// ---- Swapping parts ----

/** Puts the answer's version of a part in place; keeps focus, open details and what is being typed. */
function replacePart(selector, page, wanted) {
  const old = $(selector), fresh = $(selector, page);
  if (!old || !fresh) return false;
  const active = document.activeElement;
  const held = old.contains(active) ? { id: active.id, name: active.name, start: active.selectionStart } : null;
  const open = new Set($$("details[open][id]", old).map((node) => node.id));
  const ticked = new Set($$("[data-keep]:checked", old).map((box) => box.value));
  const opened = $$("details", old).map((node) => node.open);
  const count = opened.length;
  const adopted = document.adoptNode(fresh);
  old.replaceWith(adopted);
  for (const box of $$("[data-keep]", adopted)) box.checked ||= ticked.has(box.value);
  const details = $$("details", adopted);
  if (details.length === count) details.forEach((node, index) => { if (opened[index]) node.open = true; });
  for (const id of open) { const node = document.getElementById(id); if (node) node.open = true; }
  const focus = wanted || adopted.dataset.focus;
  const target =
    (focus && document.getElementById(focus)) ||
    (held && ((held.id && document.getElementById(held.id)) || (held.name && $(`[name="${CSS.escape(held.name)}"]`, adopted))));
  if (target) {
    if (target.disabled) (target.nextElementSibling || target).focus();
    else target.focus({ preventScroll: !focus });
    if (held && held.start != null && target.setSelectionRange) {
      try { target.setSelectionRange(held.start, held.start); } catch { /* not a text field */ }
    }
  } else if (!held) {
    $("[autofocus]", adopted)?.focus();
  }
  prepare(adopted);
  return true;
}

async function fetchPage(url, options = {}) {
  const answer = await fetch(url, { ...options, headers: { ...options.headers, "X-Swap": "1" } });
  if (new URL(answer.url).pathname === "/sign-in") { location.reload(); throw new Error("signed out"); }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return { answer, page };
}

function takeToast(page) {
  for (const toast of $$("[data-toast]", page)) showToast(document.adoptNode(toast));
}

function fail(page, answer) {
  const text = $("[data-error]", page)?.textContent || $(".fault", page)?.textContent || `The server answered ${answer.status}.`;
  say(text, true);
}

async function swap(element, url, options) {
  const selector = element.dataset.swap;
  const busy = $(selector);
  busy?.setAttribute("aria-busy", "true");
  try {
    const { answer, page } = await fetchPage(url, options);
    const landed = new URL(answer.url);
    if (answer.redirected && landed.pathname !== location.pathname) {
      history.pushState(null, "", landed);
      document.title = page.title;
      replacePart("#main", page);
      takeToast(page);
      return;
    }
    if (answer.ok && element.hasAttribute("data-unpick")) for (const box of $$("[data-keep]")) box.checked = false;
    if (!replacePart(selector, page)) { fail(page, answer); return; }
    for (const other of ["#flag-head", "#confirm"]) if (selector !== other) replacePart(other, page);
    takeToast(page);
    if (element.hasAttribute("data-push")) history.replaceState(null, "", landed.pathname + landed.search);
  } catch (error) {
    say("The server cannot be reached. Nothing was changed.", true);
  } finally {
    busy?.removeAttribute("aria-busy");
  }
}

function bodyOf(form, submitter) {
  const data = new FormData(form);
  if (submitter?.name) data.append(submitter.name, submitter.value);
  return new URLSearchParams(data);
}

document.addEventListener("submit", (event) => {
  const form = event.target, button = event.submitter;
  if (button?.dataset.hold !== undefined && button.dataset.held !== "1") { event.preventDefault(); return; }
  if (form.hasAttribute("data-theme-form")) return setTheme(event, button);
  if (form.dataset.swap === undefined || !$(form.dataset.swap)) return;
  event.preventDefault();
  const body = bodyOf(form, button);
  if (form.method === "get") return swap(form, `${form.getAttribute("action") || location.pathname}?${body}`);
  swap(form, form.action, { method: "POST", body });
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !$(link.dataset.swap)) return;
  event.preventDefault();
  swap(link, link.href);
});

// ---- Live ----

const due = new Map();

/** Fetches the parts that follow a piece of news; several with one source share a request. */
function onNews(word) {
  for (const node of $$("[data-live]")) {
    if (!node.dataset.live.split(" ").some((own) => own === word || (word === "missed" && own))) continue;
    if (node.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) continue;
    if ($("[data-held-now]", node)) continue;
    const source = node.dataset.src || location.pathname + location.search;
    if (!due.has(source)) {
      due.set(source, new Set());
      setTimeout(() => refresh(source), 150);
    }
    due.get(source).add(`#${node.id}`);
  }
}

async function refresh(source) {
  const parts = due.get(source);
  due.delete(source);
  try {
    const { answer, page } = await fetchPage(source);
    if (answer.ok || answer.status === 404) for (const selector of parts) replacePart(selector, page); // 404: what it shows is gone
  } catch { /* the stream says when the server is gone */ }
}

// Figures that follow the clock; "first" is fetched once, after the page.
setInterval(() => { if (!document.hidden && $('[data-live~="tick"]')) onNews("tick"); }, 5000);
// What moves while one looks: a run of repairs.
setInterval(() => { if (!document.hidden && $('[data-live~="beat"]')) onNews("beat"); }, 1000);
if ($('[data-live~="first"]')) onNews("first");

let lastNews = Date.now();

function connect() {
  if (!environment || !window.EventSource) return;
  const state = $("#live"), word = $("[data-live-word]");
  const stream = new EventSource(`/ui/events?environment=${encodeURIComponent(environment)}`);
  let lost = false, first = true;
  const alive = () => {
    lastNews = Date.now();
    if (lost) { lost = false; onNews("missed"); }
    if (state.dataset.state !== "live") {
      state.dataset.state = "live";
      word.textContent = "live";
      document.documentElement.classList.remove("stale");
    }
  };
  const listen = (name, handle) => stream.addEventListener(name, (event) => { alive(); handle?.(event.data); });
  listen("alive");
  listen("environment", (revision) => {
    const shown = $("#revision");
    const changed = shown.textContent !== `r${revision}`;
    shown.textContent = `r${revision}`;
    if (changed || !first) onNews("environment");
    // A run may have moved on between the page and this stream, and may have nothing more to say.
    if (first) for (const run of $$("[data-run]")) onNews(`run:${run.dataset.run}`);
    first = false;
  });
  listen("clients", () => onNews("clients"));
  listen("status", () => onNews("status"));
  listen("run", (id) => { onNews(`run:${id}`); onNews("run"); });
  listen("missed", () => onNews("missed"));
  const gone = () => {
    if (lost) return;
    lost = true;
    state.dataset.state = "lost";
    const since = new Date(lastNews);
    word.textContent = `stale since ${since.toTimeString().slice(0, 8)}`;
    document.documentElement.classList.add("stale");
  };
  stream.addEventListener("error", () => {
    gone();
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
  setInterval(() => { if (Date.now() - lastNews > 12000) gone(); }, 1000);
}

// ---- Press and hold ----

const HOLD_MS = 800;

function prepareHold(button) {
  let timer = null, touched = false;
  const done = () => {
    timer = null;
    button.classList.remove("holding");
    button.removeAttribute("data-held-now");
    if (button.form && !button.form.reportValidity()) return;
    button.dataset.held = "1";
    button.form.requestSubmit(button);
    delete button.dataset.held;
  };
  const start = () => {
    touched = true;
    if (timer || button.disabled) return;
    if (still.matches) { askTyped(button, done); return; }
    button.classList.add("holding");
    button.setAttribute("data-held-now", "");
    timer = setTimeout(done, HOLD_MS);
  };
  const stop = () => {
    if (!timer) return;
    clearTimeout(timer);
    timer = null;
    button.classList.remove("holding");
    button.removeAttribute("data-held-now");
    hintAt(button);
  };
  button.addEventListener("pointerdown", (event) => { if (event.button === 0) start(); });
  for (const name of ["pointerup", "pointerleave", "pointercancel", "blur"]) button.addEventListener(name, stop);
  button.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (!event.repeat) start();
  });
  button.addEventListener("keyup", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); stop(); } });
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  // Assistive technology clicks without pressing: it types instead.
  button.addEventListener("click", (event) => {
    if (button.dataset.held === "1") return;
    event.preventDefault();
    if (!touched) askTyped(button, done);
    touched = false;
  });
}

/** Says above a button that was let go too early what to do with it. */
function hintAt(button) {
  if (button.classList.contains("too-short")) return;
  button.classList.add("too-short");
  const said = document.createElement("span");
  said.className = "hidden-text";
  said.setAttribute("role", "status");
  button.after(said);
  setTimeout(() => { said.textContent = "Keep it pressed"; }, 100); // a region announces what comes into it
  setTimeout(() => { said.remove(); button.classList.remove("too-short"); }, 4000);
}

function askTyped(button, done) {
  if (button.nextElementSibling?.classList.contains("typed")) { $("input", button.nextElementSibling).focus(); return; }
  const word = button.dataset.hold;
  const box = document.createElement("span");
  box.className = "typed";
  const input = document.createElement("input");
  input.setAttribute("aria-label", `Type ${word} to confirm`);
  input.placeholder = `Type “${word}”`;
  input.addEventListener("input", () => { if (input.value.trim().toLowerCase() === word.toLowerCase()) { box.remove(); done(); } });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
    if (event.key === "Escape") { box.remove(); button.focus(); }
  });
  box.append(input);
  button.after(box);
  input.focus();
}

// ---- Toasts ----

function showToast(toast) {
  const place = $("#toasts");
  if (!place) return;
  while (place.children.length > 1) place.firstElementChild.remove();
  place.append(toast);
  keepToast(toast);
}

function keepToast(toast) {
  let left = 10000, timer = null, began = 0;
  const go = () => { began = Date.now(); timer = setTimeout(() => toast.remove(), left); };
  toast.addEventListener("pointerenter", () => { clearTimeout(timer); left -= Date.now() - began; });
  toast.addEventListener("pointerleave", go);
  go();
}

function say(text, bad = false) {
  const toast = document.createElement("div");
  toast.className = bad ? "toast bad" : "toast";
  if (bad) toast.setAttribute("role", "alert");
  const words = document.createElement("span");
  words.textContent = text;
  toast.append(words);
  showToast(toast);
}

// ---- Small things ----

// One crosshair over all charts of a page: where the pointer is, where the arrow keys go, and where the address says (?at=, UTC milliseconds).
const charts = () => $$("svg.chart[data-at]");
let pinned = Number(new URLSearchParams(location.search).get("at")) || null;

function crosshair(place) {
  for (const chart of charts()) {
    const said = JSON.parse(chart.dataset.at);
    const reading = $(".reading", chart.closest("figure"));
    let line = $(".cross", chart);
    if (place === null || place >= said.length) {
      line?.remove();
      reading.textContent = "";
      continue;
    }
    if (!line) {
      line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      line.classList.add("cross");
      $(".field", chart).append(line);
    }
    const x = (place + 0.5) / said.length * 960;
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", 0], ["y2", 110]]) line.setAttribute(name, value);
    reading.textContent = said[place];
  }
}

function placeOf(at) {
  const first = charts()[0];
  if (!first || at === null) return null;
  const place = Math.floor((at - first.dataset.from) / first.dataset.step);
  return place >= 0 && place < JSON.parse(first.dataset.at).length ? place : null;
}

function pin(place) {
  const first = charts()[0];
  pinned = place === null ? null : Number(first.dataset.from) + place * first.dataset.step;
  const here = new URL(location.href);
  if (pinned === null) here.searchParams.delete("at"); else here.searchParams.set("at", pinned);
  history.replaceState(null, "", here);
  crosshair(place);
}

function under(event) {
  const chart = event.target.closest?.("svg.chart[data-at]");
  if (!chart) return null;
  const box = chart.getBoundingClientRect();
  const count = JSON.parse(chart.dataset.at).length;
  return Math.max(0, Math.min(count - 1, Math.floor((event.clientX - box.left) / box.width * count)));
}

document.addEventListener("pointermove", (event) => {
  const place = under(event);
  if (place !== null) crosshair(place);
  else if ($(".cross") && !event.target.closest?.(".chart-box")) crosshair(placeOf(pinned));
});
document.addEventListener("click", (event) => {
  const place = under(event);
  if (place !== null) pin(placeOf(pinned) === place ? null : place);
});
document.addEventListener("keydown", (event) => {
  const section = event.target.closest?.("#charts");
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!section || event.target !== section || !(step || event.key === "Escape")) return;
  event.preventDefault();
  const count = JSON.parse(charts()[0]?.dataset.at ?? "[]").length;
  if (!step) pin(null);
  else if (count) pin(Math.max(0, Math.min(count - 1, (placeOf(pinned) ?? count) + step)));
});

function setTheme(event, button) {
  event.preventDefault();
  document.documentElement.dataset.theme = button.value;
  for (const other of $$("button", button.parentElement)) other.setAttribute("aria-pressed", String(other === button));
  fetch("/ui/theme", { method: "POST", body: new URLSearchParams({ theme: button.value }), redirect: "manual" });
}

function prepareCopy(button) {
  button.addEventListener("click", async () => {
    const text = $(button.dataset.copy)?.textContent.trim() ?? "";
    try {
      await navigator.clipboard.writeText(text);
      say("Copied.");
    } catch {
      getSelection().selectAllChildren($(button.dataset.copy));
      say("Selected: copy it with Ctrl C.");
    }
  });
}

const share = (text) => Number(text.replace(/[%\s]+$/, "").replace(",", "."));
const isShare = (text) => text.trim() !== "" && share(text) >= 0 && share(text) <= 100;

/** Takes over what the server says is wrong with a field, without touching what is being typed. */
function markFault(form, fresh) {
  const old = document.getElementById(fresh.id);
  if (!old || old.innerHTML === fresh.innerHTML) return;
  old.replaceChildren(...document.adoptNode(fresh).childNodes);
  const field = $(`[aria-describedby="${fresh.id}"]`, form);
  if (field) field.setAttribute("aria-invalid", String(old.textContent !== ""));
}

/** The rules editor: number and slider stay together, and the difference is worked out while one types. */
function prepareEditor(form) {
  let timer = null;
  const preview = async () => {
    const body = new URLSearchParams(new FormData(form));
    body.append("do", "review");
    const { page } = await fetchPage(form.action, { method: "POST", body });
    replacePart("#review", page);
    for (const fresh of $$("[data-fault]", page)) markFault(form, fresh);
    $$(".rule .words", page).forEach((fresh, index) => { const old = $$(".rule .words", form)[index]; if (old) old.replaceWith(document.adoptNode(fresh)); });
  };
  form.addEventListener("input", (event) => {
    const node = event.target;
    const pair = node.closest(".percent");
    if (pair && node.matches("[data-percent-range]")) $("[data-percent]", pair).value = node.value;
    if (pair && node.matches("[data-percent]") && isShare(node.value)) $("[data-percent-range]", pair).value = share(node.value);
    if (node.name === "reason" || node.name === "json") return;
    clearTimeout(timer);
    timer = setTimeout(() => preview().catch(() => {}), 350);
  });
}

/** Rules are dragged by their number; the buttons beside them do the same for the keyboard. */
function prepareDrag(form) {
  let from = null;
  const rules = () => $$(".rule", form);
  const leave = () => rules().forEach((rule) => rule.classList.remove("drop-here"));
  form.addEventListener("dragstart", (event) => {
    const handle = event.target.closest?.("[data-drag]");
    if (!handle) return;
    from = Number(handle.dataset.drag);
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", handle.dataset.drag);
    event.dataTransfer.setDragImage(handle.closest(".rule"), 12, 12);
  });
  form.addEventListener("dragover", (event) => {
    const rule = event.target.closest?.(".rule");
    if (from === null || !rule) return;
    event.preventDefault();
    leave();
    if (rules().indexOf(rule) !== from) rule.classList.add("drop-here");
  });
  form.addEventListener("drop", (event) => {
    const to = rules().indexOf(event.target.closest?.(".rule"));
    if (from === null || to < 0) return;
    event.preventDefault();
    const button = Object.assign(document.createElement("button"), { name: "do", value: `rule.move.${from}.${to}`, hidden: true });
    form.append(button);
    if (to !== from) form.requestSubmit(button);
    button.remove();
  });
  form.addEventListener("dragend", () => { from = null; leave(); });
}

function prepareLiveForm(form) {
  let timer = null;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => form.requestSubmit(), 200);
  });
}

/** The box in a table's head ticks every box below it. */
function preparePickAll(label) {
  label.hidden = false;
  const own = $("input", label), boxes = () => $$("[data-keep]", label.closest("table"));
  const look = () => {
    const on = boxes().filter((box) => box.checked).length;
    own.checked = on > 0 && on === boxes().length;
    own.indeterminate = on > 0 && !own.checked;
  };
  own.addEventListener("change", () => { for (const box of boxes()) box.checked = own.checked; });
  label.closest("table").addEventListener("change", look);
  look();
}

function prepareFill(select) {
  select.addEventListener("change", () => { if (select.value) location.assign(`?${select.name}=${encodeURIComponent(select.value)}`); });
}

function prepare(root) {
  if (pinned !== null) crosshair(placeOf(pinned));
  const own = (selector) => [...(root.matches?.(selector) ? [root] : []), ...$$(selector, root)];
  own("[data-hold]").forEach(prepareHold);
  own("[data-copy]").forEach(prepareCopy);
  own("[data-editor]").forEach(prepareEditor);
  own("[data-editor]").forEach(prepareDrag);
  own("[data-live-form]").forEach(prepareLiveForm);
  own("[data-fill]").forEach(prepareFill);
  own("[data-pick-all]").forEach(preparePickAll);
  own("[data-toast]").forEach(keepToast);
  own(".table-wrap").forEach((box) => { if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; });
  own("[popover]").forEach((panel) => panel.addEventListener("toggle", (event) => {
    if (event.newState === "open") $("textarea[autofocus]", panel)?.select();
  }));
  tickTimes();
}

addEventListener("popstate", () => location.reload());
prepare(document);
connect();
