// SPDX-License-Identifier: Apache-2.0
//
// Makes the pages live. Everything here is a shortcut: without it, dialogs are
// pages, orders are changed with buttons, and what is new is seen on reload.
"use strict";

const root = "/console/";
document.documentElement.classList.add("scripted");

// Dialogs: a link marked data-dialog shows its page's card in a dialog.
let opener = null;

async function openDialog(link) {
  let card = null;
  try {
    const answer = await fetch(link.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    card = answer.ok && page.querySelector("main .dialog");
  } catch { /* the page itself is the fallback */ }
  if (!card) {
    if (await knock(missed)) location.href = link.href;
    return;
  }
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.className = card.classList.contains("narrow") ? "fit" : card.classList.contains("wide") ? "" : "plain";
  dialog.append(document.importNode(card, true));
  dialog.querySelector("h1").id = "dialog-title";
  document.body.append(dialog);
  opener = link;
  dialog.dataset.from = link.href;
  dialog.addEventListener("close", () => {
    if (dialog.querySelector("[data-changes]")) location.reload(); // the page behind is old
    dialog.remove();
    if (opener) opener.focus();
  });
  prepare(dialog);
  dialog.showModal();
  focusFirst(dialog);
}

// focusFirst goes to the field at fault, or else to the first one; of a choice,
// to what is chosen.
function focusFirst(dialog) {
  let first = dialog.querySelector("[aria-invalid]") || dialog.querySelector("input:not([type=hidden]), select, textarea, button:not(.hidden)");
  if (first && first.type === "radio") first = [...first.form.elements[first.name]].find((one) => one.checked) || first;
  if (first) first.focus();
}

document.addEventListener("click", (event) => {
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
  const link = event.target.closest("a[data-dialog]");
  if (link && plain) {
    event.preventDefault();
    const dialog = link.closest("dialog");
    if (dialog) dialog.close();
    openDialog(link);
    return;
  }
  const cancel = event.target.closest("[data-close]");
  if (cancel && cancel.closest("dialog")) {
    event.preventDefault();
    cancel.closest("dialog").close();
    return;
  }
  const more = event.target.closest("[data-more]");
  if (more) {
    event.preventDefault();
    addRow(more.form);
  }
});

// A form in a dialog is sent without leaving the page, so that a refusal comes
// back into the dialog with everything that was typed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  const dialog = form.closest("dialog");
  if (form.dataset.plain) {
    delete form.dataset.plain;
    return;
  }
  event.preventDefault();
  if (document.documentElement.dataset.sending) return;
  if (dialog && form.method === "post") sendDialog(dialog, form, event.submitter);
  else sendPlain(form, event.submitter);
});

// sendPlain sends any other form, if the server is there to take it.
async function sendPlain(form, submitter) {
  document.documentElement.dataset.sending = "1";
  const there = await knock(unsent);
  delete document.documentElement.dataset.sending;
  if (!there) return;
  form.dataset.plain = "1";
  form.requestSubmit(submitter);
}

// knock asks whether the server is there, before the browser leaves a page that
// it could not come back to.
let away = false; // when last asked
const door = document.currentScript.src;

async function knock(otherwise) {
  try {
    await fetch(door, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(patience) });
    if (away) tell("");
    away = false;
  } catch {
    away = true;
    tell(otherwise);
  }
  return !away;
}

// A link that leads to a server that is away leaves the page as it is.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[href]");
  if (!away || !link || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  if (await knock(missed)) location.href = link.getAttribute("href");
});

async function sendDialog(dialog, form, submitter) {
  document.documentElement.dataset.sending = "1";
  const data = new FormData(form, submitter);
  const body = form.enctype === "multipart/form-data" ? data : new URLSearchParams(data);
  let answer = null;
  let text = "";
  try {
    const to = submitter && submitter.hasAttribute("formaction") ? submitter.formAction : form.getAttribute("action");
    answer = await fetch(to, { method: "POST", body, headers: { "X-Dialog": "1" } });
    text = await answer.text();
  } catch {
    delete document.documentElement.dataset.sending;
    alertIn(dialog, "The server does not answer. Whether it took this is not known: nothing you typed is lost; look, and send it again if need be.");
    return;
  }
  const to = answer.headers.get("X-Location");
  if (to) {
    const here = location.pathname + location.search;
    if (new URL(to, location.href).href.split("#")[0] === location.origin + here) location.reload();
    else location.href = to;
    return;
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  const card = page.querySelector("main .dialog");
  if (card) {
    delete document.documentElement.dataset.sending;
    dialog.replaceChildren(document.importNode(card, true));
    dialog.querySelector("h1").id = "dialog-title";
    prepare(dialog);
    dialog.scrollTop = 0;
    focusFirst(dialog);
    return;
  }
  if (answer.status === 401 || answer.status === 403) { // nothing was changed: let the page say so, and keep what was typed
    delete document.documentElement.dataset.sending;
    form.dataset.plain = "1";
    form.requestSubmit(submitter);
    return;
  }
  delete document.documentElement.dataset.sending;
  const said = page.querySelector("main .card");
  alertIn(dialog, said ? said.innerText.replace(/\s*\n\s*/g, " ") : "The server answers " + answer.status + ".");
}

// alertIn says something on top of a dialog, whose form stays.
function alertIn(dialog, text) {
  let line = dialog.querySelector("[data-said]");
  if (!line) {
    line = document.createElement("div");
    line.className = "alert bad";
    line.dataset.said = "1";
    line.setAttribute("role", "alert");
    dialog.querySelector("h1").after(line);
  }
  line.textContent = text;
}

// Another row in the form for new rules.
function addRow(form) {
  const rows = form.querySelector("[data-rows]");
  const number = rows.children.length;
  const row = rows.lastElementChild.cloneNode(true);
  row.querySelector(".rowno").textContent = number + 1;
  for (const part of row.querySelectorAll("[id], [for], [aria-describedby]")) {
    for (const name of ["id", "for", "aria-describedby"]) {
      if (part.hasAttribute(name)) part.setAttribute(name, part.getAttribute(name).replace(/\d+$/, number));
    }
    part.removeAttribute("aria-invalid");
    if (part.tagName === "INPUT") part.value = "";
    if (part.classList.contains("fault")) part.textContent = "";
  }
  rows.append(row);
  prepare(row);
  row.querySelector("input").focus();
}

// kinds shows what the chosen kind of load balancer has, and the chosen VPC's
// subnets. What is not shown is not sent, and still there when it is shown again.
function kinds(form) {
  const vpc = form.elements.VpcId;
  const show = () => {
    const isPrivate = form.elements.LoadBalancerType.value === "INTERNAL";
    for (const part of form.querySelectorAll("[data-private]")) {
      part.hidden = !isPrivate;
      part.querySelector("select").disabled = !isPrivate;
    }
    for (const group of form.querySelectorAll("[data-of]")) {
      const here = group.dataset.of === vpc.value;
      group.hidden = group.disabled = !here;
      if (!here && group.querySelector("option:checked")) form.elements.SubnetId.value = "";
    }
  };
  form.addEventListener("change", show);
  show();
}

// What a listener's protocol and its type of health check leave to choose.
function protocols(form) {
  const { Protocol: chosen, CheckType: type } = form.elements;
  const show = () => {
    const protocol = chosen ? chosen.value : form.dataset.protocol;
    const http = protocol.startsWith("HTTP");
    if (type) {
      for (const option of type.options) option.hidden = option.disabled = !option.dataset.of.split(" ").includes(protocol);
      if (type.selectedOptions[0]?.disabled) type.value = [...type.options].find((option) => !option.disabled)?.value ?? "";
    }
    const hide = (mark, away) => {
      for (const part of form.querySelectorAll(`[data-${mark}]`)) part.hidden = away;
    };
    hide("http", !http);
    hide("https", protocol !== "HTTPS");
    hide("layer4", http);
    hide("check-http", !http && type?.value !== "HTTP");
    hide("check-custom", http || type?.value !== "CUSTOM");
  };
  chosen?.addEventListener("change", show);
  type?.addEventListener("change", show);
  show();
}

// Small helps inside forms; also for what comes later.
function prepare(part) {
  for (const select of part.querySelectorAll("[data-fills]")) {
    select.addEventListener("change", () => {
      const service = select.closest(".rule-row").querySelector("[name=Service]");
      if (select.value) service.value = select.value;
      service.focus();
    });
  }
  for (const form of part.querySelectorAll("[data-protocol-form]")) protocols(form);
  for (const form of part.querySelectorAll("[data-kind-form]")) kinds(form);
  for (const box of part.querySelectorAll("[data-max-ticks]")) {
    const limit = Number(box.dataset.maxTicks);
    const all = () => [...box.closest("form").querySelectorAll("input[name=sg]")];
    const hold = () => {
      const full = all().filter((tick) => tick.checked).length >= limit;
      for (const tick of all()) tick.disabled = full && !tick.checked;
    };
    box.closest("form").addEventListener("change", hold);
    hold();
  }
  for (const tick of part.querySelectorAll("[data-tick-all]")) {
    tick.addEventListener("change", () => {
      for (const one of tick.form.querySelectorAll("tbody input[type=checkbox]")) one.checked = tick.checked;
    });
  }
  for (const list of part.querySelectorAll("[data-order]")) orderable(list);
}

// Rows that are dragged into another order, then saved or not.
function orderable(list) {
  const form = list.closest("form");
  const field = form.querySelector("[data-order-field]");
  const save = form.querySelector("[data-order-save]");
  const cancel = form.querySelector("[data-order-cancel]");
  const order = () => [...list.children].map((row) => row.dataset.id).join(",");
  const before = [...list.children];
  const first = order();
  let dragged = null;
  for (const row of list.children) {
    row.querySelector("[data-handle]").addEventListener("pointerdown", (event) => {
      event.preventDefault();
      dragged = row;
      row.classList.add("dragging");
      row.setPointerCapture(event.pointerId);
    });
    row.addEventListener("pointermove", (event) => {
      if (dragged !== row) return;
      for (const other of list.children) {
        const box = other.getBoundingClientRect();
        if (other === row || event.clientY < box.top || event.clientY > box.bottom) continue;
        const after = event.clientY > box.top + box.height / 2;
        list.insertBefore(row, after ? other.nextSibling : other);
        break;
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      row.addEventListener(end, () => {
        if (dragged !== row) return;
        dragged = null;
        row.classList.remove("dragging");
        field.value = order() === first ? "" : order();
        save.hidden = cancel.hidden = field.value === "";
      });
    }
  }
  cancel.addEventListener("click", () => {
    list.append(...before);
    field.value = "";
    save.hidden = cancel.hidden = true;
  });
  form.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (button !== save) field.value = "";
  });
}

// What the page says about its connection; standing is what holds until it is
// loaded again.
let standing = "";

function tell(text) {
  const line = document.getElementById("connection");
  if (line.textContent !== (text || standing)) line.textContent = text || standing;
}

const lost = "The server does not answer. What you see may be old; trying again.";
const missed = "The server does not answer, so this page stays. Try again in a moment.";
const unsent = "The server does not answer. Nothing was sent; what you typed is still here. Try again in a moment.";
const slow = "The server is slow to answer. What you see may be old; trying again.";
const patience = 12000; // ms; a stream that lives says something more often
const crowded = "This login has too many live pages open, so this one does not update by itself. Close some, or load it again.";
const stuck = "What this page shows was deleted, or your key may not see it any more: it does not update by itself. Load it again.";
const gone = "Your login has expired. Load the page to log in again; what you typed stays here until you do.";

// listen keeps a stream of events and says when it is lost.
function listen(address, events) {
  let source = null;
  let failures = 0;
  let ended = false;
  let heard = Date.now();
  const open = () => {
    if (source) source.close();
    heard = Date.now();
    source = new EventSource(address);
    for (const name of ["hello", "beat", "changed", "verdicts"]) source.addEventListener(name, () => { heard = Date.now(); });
    source.addEventListener("hello", () => {
      if (failures > 0) events.again();
      failures = 0;
      away = false;
      tell("");
    });
    source.addEventListener("expired", () => { source.close(); ended = true; tell(gone); });
    for (const [name, take] of Object.entries(events)) {
      if (name !== "again") source.addEventListener(name, (event) => take(event.data));
    }
    source.onerror = async () => {
      source.close();
      failures++;
      if (failures > 1 && failures < 4) tell(lost);
      try {
        const answer = await fetch(root + "live?topics=", { method: "HEAD" });
        if (answer.status === 401) { ended = true; tell(gone); return; }
        if (answer.status === 429) { tell(crowded); failures = Math.max(failures, 4); }
      } catch { away = true; tell(lost); }
      setTimeout(() => { if (!document.hidden) open(); }, Math.min(15000, 500 * 2 ** failures));
    };
  };
  if (!document.hidden) open();
  const again = () => { if (source) source.close(); failures = 1; open(); };
  setInterval(() => { // a connection that hangs tells no error
    if (ended || document.hidden || Date.now() - heard < patience) return;
    tell(slow);
    again();
  }, 2000);
  window.addEventListener("pagehide", () => { if (source) source.close(); });
  window.addEventListener("pageshow", (event) => { if (event.persisted) again(); }); // the browser kept the page and brings it back
  document.addEventListener("visibilitychange", () => { // browsers allow few connections: hidden pages hold none
    if (document.hidden && source) source.close();
    if (!document.hidden) again();
  });
}

// Live parts: when a topic changes, the page is asked for again and the parts
// that show it are replaced, except where somebody is.
const quietly = { "Sallyport-Refresh": "1" }; // the page asks, nobody uses the login
const pace = 5000; // ms from one refresh to the next
const page = document.documentElement.dataset.page || location.href; // after a refused form, the page that it stood on
let busy = false;
let waiting = new Set();

async function refresh(topic) {
  waiting.add(topic);
  if (busy || standing || document.hidden) return; // seen to when the page is looked at again
  busy = true;
  const topics = waiting;
  waiting = new Set();
  try {
    const answer = await fetch(page, { signal: AbortSignal.timeout(patience), headers: quietly });
    if (answer.status === 401) { tell(gone); return; }
    if (answer.status >= 500) throw new Error("the server fails");
    if (!answer.ok) { standing = stuck; tell(""); return; }
    const text = new DOMParser().parseFromString(await answer.text(), "text/html");
    tell("");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = text.getElementById(part.id);
      const concerned = part.dataset.topics.split(",").some((name) => topics.has(name));
      if (!fresh || !concerned || part.contains(document.activeElement) || part.innerHTML === fresh.innerHTML) continue;
      const scrolled = part.querySelector(".scroll");
      const left = scrolled ? scrolled.scrollLeft : 0;
      const open = [...part.querySelectorAll("details")].map((one) => one.open);
      part.replaceChildren(...fresh.childNodes);
      part.querySelectorAll("details").forEach((one, i) => { one.open = open[i] === true; });
      if (left) part.querySelector(".scroll").scrollLeft = left;
    }
  } catch {
    tell(slow);
    for (const name of topics) waiting.add(name);
  } finally {
    setTimeout(() => { busy = false; if (waiting.size) refresh([...waiting][0]); }, pace);
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && waiting.size) refresh([...waiting][0]); });

function live() {
  const parts = [...document.querySelectorAll("[data-live]")];
  if (!parts.length) {
    const alone = document.querySelector(".frame.alone, [data-stream]"); // logged out, or with a stream of its own
    if (!alone) listen(root + "live?topics=idle", { again() {} }); // says when the server or the login goes
    return;
  }
  const topics = [...new Set(parts.flatMap((part) => part.dataset.topics.split(",")))];
  const group = (parts.find((part) => part.dataset.group) || { dataset: {} }).dataset.group || "";
  listen(root + "live?" + new URLSearchParams({ topics: topics.join(","), group }), {
    changed: refresh,
    again: () => topics.forEach(refresh),
  });
}

// The stream of verdicts: rows come on top, at most so many are kept.
function stream() {
  const body = document.querySelector("[data-stream]");
  if (!body) return;
  const note = document.getElementById("stream-note");
  const pause = document.querySelector("[data-pause]");
  const kept = 200;
  let held = [];
  let left = 0;
  pause.addEventListener("click", () => {
    const on = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", on);
    pause.textContent = on ? "Go on" : "Pause";
    if (!on) { for (const batch of held) show(batch); held = []; }
  });
  const show = (batch) => {
    const empty = document.querySelector("[data-stream-empty]");
    if (empty) empty.remove();
    const rows = new DOMParser().parseFromString("<table><tbody>" + batch.rows + "</tbody></table>", "text/html").querySelectorAll("tr");
    for (const row of rows) body.prepend(document.importNode(row, true));
    while (body.children.length > kept) body.lastElementChild.remove();
    left += batch.skipped + batch.lost;
    note.textContent = batch.skipped ? `${batch.count} in the last second: too many to show, a sample of ${rows.length} is shown. ${left} left out so far.` : left ? `${left} left out so far.` : "";
  };
  listen(body.dataset.stream, {
    verdicts: (text) => {
      const batch = JSON.parse(text);
      if (!batch.count && !batch.lost) return;
      if (pause.getAttribute("aria-pressed") === "true") {
        held.push(batch);
        if (held.length > 20) { const first = held.shift(); left += first.count + first.lost; }
        note.textContent = "Paused; new verdicts are waiting." + (left ? ` ${left} left out so far.` : "");
        return;
      }
      show(batch);
    },
    again: async () => { // what came meanwhile
      try {
        const text = new DOMParser().parseFromString(await (await fetch(page, { headers: quietly })).text(), "text/html");
        const fresh = text.querySelector("[data-stream]");
        if (fresh) body.replaceChildren(...fresh.children);
      } catch { tell(lost); }
    },
  });
}

// A row of tabs that is too wide shows the one that is open.
function showTabs() {
  for (const tab of document.querySelectorAll("nav [aria-current=page]")) {
    const nav = tab.closest("nav");
    if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = tab.offsetLeft - nav.offsetLeft - (nav.clientWidth - tab.offsetWidth) / 2;
  }
}

prepare(document);
showTabs();
live();
stream();
