// What the keyboard reaches on every page: the palette, and the list of keys. Uses what app.js defines.
"use strict";

/** Opens a dialog, and gives the focus back to where it was when it closes. */
function openOver(dialog) {
  const before = document.activeElement;
  // A menu closes behind a dialog: then its button is what can be focused.
  const menu = before?.closest?.("[popover]");
  const back = menu ? $(`[popovertarget="${menu.id}"]`) : before;
  dialog.addEventListener("close", () => back?.focus?.({ preventScroll: true }), { once: true });
  dialog.showModal();
}

for (const dialog of $$("dialog")) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

function openKeys() {
  const dialog = $("#keys");
  if (dialog && !$("dialog[open]")) openOver(dialog);
}

for (const button of $$("[data-keys]")) {
  button.hidden = false;
  button.addEventListener("click", openKeys);
}

// ---- Palette ----

let found = [], chosen = 0, known = null;

async function openPalette(text = "") {
  const dialog = $("#palette");
  if (!dialog || $("dialog[open]")) return;
  dialog.innerHTML = '<input type="text" role="combobox" aria-expanded="true" aria-controls="palette-list" aria-autocomplete="list" aria-label="Search or jump" placeholder="Jump to a flag, a page, a playbook"><ul id="palette-list" role="listbox" aria-label="Results"></ul><p class="quiet" role="status"></p>';
  openOver(dialog);
  const input = $("input", dialog);
  input.value = text;
  input.addEventListener("input", () => { chosen = 0; list(input.value); });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : found.length - 1)) % Math.max(found.length, 1);
      list(input.value);
    } else if (event.key === "Enter" && found[chosen]) {
      event.preventDefault();
      go(found[chosen]);
    }
  });
  if (!known) {
    try {
      const answer = await fetch(`/ui/search.json?environment=${encodeURIComponent(environment)}`);
      if (!answer.ok) throw new Error(answer.status);
      known = (await answer.json()).items;
      known.push({ kind: "help", name: "Keyboard shortcuts", hint: "?", run: openKeys });
    } catch {
      $("[role=status]", dialog).textContent = "The server cannot be reached.";
      return;
    }
  }
  list(input.value); // what was typed meanwhile
}

function go(item) {
  if (!item.run) return location.assign(item.url);
  $("#palette").addEventListener("close", item.run, { once: true });
  $("#palette").close();
}

/** Each word must stand in it somewhere; better early in the name than in the hint. */
function rank(item, words) {
  const name = item.name.toLowerCase(), hint = item.hint.toLowerCase();
  let sum = 1;
  for (const word of words) {
    const inName = name.indexOf(word), inHint = hint.indexOf(word);
    if (inName < 0 && inHint < 0) return 0;
    sum += inName >= 0 ? 1000 - inName - name.length / 100 : 300 - Math.min(inHint, 200);
  }
  return sum;
}

function list(text) {
  const place = $("#palette-list");
  if (!known || !place) return;
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  found = known
    .map((item) => [item, rank(item, words)])
    .filter(([, points]) => points > 0)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 12)
    .map(([item]) => item);
  place.replaceChildren(...found.map((item, index) => {
    const row = document.createElement("li");
    row.setAttribute("role", "option");
    row.id = `palette-${index}`;
    row.setAttribute("aria-selected", String(index === chosen));
    const name = document.createElement("span"), hint = document.createElement("small"), kind = document.createElement("span");
    name.textContent = item.name;
    hint.textContent = item.hint;
    kind.textContent = item.kind;
    kind.className = "tag";
    row.append(name, hint, kind);
    row.addEventListener("click", () => go(item));
    return row;
  }));
  place.hidden = !found.length;
  $("#palette [role=status]").textContent = found.length ? "" : "Nothing found";
  const input = $("#palette input");
  input.setAttribute("aria-expanded", String(found.length > 0));
  if (found.length) input.setAttribute("aria-activedescendant", `palette-${chosen}`);
  else input.removeAttribute("aria-activedescendant");
  $(`#palette-${chosen}`)?.scrollIntoView({ block: "nearest" });
}

// The field at the top opens it when it is clicked or typed into, never by focus alone: Tab goes past.
for (const field of $$("[data-palette]")) {
  field.addEventListener("click", () => openPalette());
  field.addEventListener("input", () => { const text = field.value; field.value = ""; openPalette(text); });
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, textarea, select");
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); openPalette(); }
  else if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "/") { event.preventDefault(); openPalette(); }
  else if (event.key === "?") { event.preventDefault(); openKeys(); }
});
