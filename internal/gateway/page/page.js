"use strict";
// One script for one page: it lists what there is, follows what becomes of it, and draws the rows that are in sight.
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const mayOperate = root.dataset.operate === "true", shared = root.dataset.shared === "true";
const known = new Map(); // backends by id
const early = new Map(); // events of backends that are not listed yet
let rows = [], chosen = -1, shown = null, dirty = true, listing = false, relist = false;
const spawned = [], failed = [];

const twoDigits = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const clock = new Intl.DateTimeFormat(undefined, twoDigits), day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const when = (text) => clock.format(new Date(text)), whenDay = (text) => day.format(new Date(text));
const name = (key) => (key.namespace ? key.namespace + " / " : "") + key.name;
const say = (text) => { $("said").textContent = text; if (text) setTimeout(() => { if ($("said").textContent === text) $("said").textContent = ""; }, 8000); };
const el = (name, text, cls) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };

const patient = { "Jetway-Timeout": "60s" };
async function ask(path, body) {
  // What asks for something to be done is asked again if it has to be (act), and so waits less.
  const options = body === undefined ? { headers: patient } : { method: "POST", headers: { "Jetway-Timeout": "5s", "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await fetch(path, options);
  if (reply.status === 401) { location.reload(); throw new Error("signed out"); }
  const value = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(value.message || reply.statusText), { passes: reply.status === 503 });
  return value;
}

function take(b) {
  const before = known.get(b.backend_id);
  if (before && before.number > b.number) Object.assign(b, { status: before.status, number: before.number, changed_at: before.changed_at });
  const event = early.get(b.backend_id);
  early.delete(b.backend_id);
  b.text = [b.key.namespace, b.key.name, b.key.tag, b.backend_id, b.drone].join(" ").toLowerCase();
  known.set(b.backend_id, b);
  if (event) apply(b, event);
  dirty = true;
}

function apply(b, e) {
  if (e.number <= b.number) return;
  for (const f of ["status", "number", "termination_kind", "termination_reason", "message", "exit_code", "last_status"]) if (f in e) b[f] = e[f];
  b.changed_at = e.time;
  dirty = true;
}

// All pages, once; what changes meanwhile comes by the stream.
async function list() {
  if (listing) { relist = true; return; }
  listing = true;
  try {
    const seen = new Set(), all = $("ended").checked;
    let after = "";
    do {
      const page = await ask("/v1/backends?limit=200" + (all ? "&all=true" : "") + (after ? "&after=" + encodeURIComponent(after) : ""));
      for (const b of page.backends) { seen.add(b.backend_id); take(b); }
      after = page.next || "";
    } while (after);
    if (!all) for (const id of known.keys()) if (!seen.has(id) && known.get(id).listed) known.delete(id);
    for (const id of seen) known.get(id).listed = true;
    dirty = true;
  } catch (e) { say("The backends cannot be listed: " + e.message); }
  listing = false;
  if (relist) { relist = false; list(); }
}

const wanted = new Set();
let fetching = 0;
async function fetchWanted() {
  while (wanted.size && fetching < 4) {
    const id = wanted.values().next().value;
    wanted.delete(id); fetching++;
    ask("/v1/backends/" + id).then(take, () => early.delete(id)).finally(() => { fetching--; fetchWanted(); });
  }
}

function event(e) {
  const now = Date.now();
  if (e.status === "scheduled") spawned.push(now);
  if (e.status === "terminated" && ["start-failed", "startup-timeout", "lost", "internal-error", "key-expired"].includes(e.termination_reason)) failed.push([now, e.termination_reason]);
  const b = known.get(e.backend_id);
  if (b) apply(b, e);
  else {
    const before = early.get(e.backend_id);
    if (early.size < 20000 && (!before || before.number < e.number)) early.set(e.backend_id, e);
    if (wanted.size < 500) { wanted.add(e.backend_id); fetchWanted(); } else relist = true;
  }
  if (shown === e.backend_id) story(e);
}

function setLive(state, text) { const p = $("live"); if (p.dataset.state !== state) { p.dataset.state = state; p.textContent = text; } }

let source, again = 500;
function follow() {
  source = new EventSource("/v1/events");
  source.onmessage = (m) => { again = 500; event(JSON.parse(m.data)); };
  source.addEventListener("live", (m) => {
    again = 500;
    if (JSON.parse(m.data).live) { setLive("live", "live"); list(); drones(); } else setLive("dead", "not live: the gateway has lost the bus");
  });
  source.addEventListener("reset", () => list());
  source.onerror = () => {
    setLive("dead", "not live: the connection is lost, trying again");
    if (source.readyState === EventSource.CLOSED) { setTimeout(follow, again); again = Math.min(again * 2, 10000); }
  };
}

// What this gateway has answered: counts that go up, of which the page shows what was added.
let counted = null, perSecond = null;
const refused = [];
async function counts() {
  try {
    const now = await ask("/page.json"), at = performance.now();
    if (counted && counted.gateway === now.gateway && counted.since === now.since) {
      perSecond = (now.connects - counted.connects) / Math.max((at - counted.at) / 1000, 0.1);
      for (const [kind, n] of Object.entries(now.refused)) { const more = n - (counted.refused[kind] || 0); if (more > 0) refused.push([Date.now(), kind, more]); }
    }
    counted = { ...now, at };
    rates();
  } catch { perSecond = null; }
}

async function drones() {
  if (!shared) return;
  counts();
  try {
    const all = [];
    let after = "";
    do {
      const page = await ask("/v1/drones" + (after ? "?after=" + encodeURIComponent(after) : ""));
      all.push(...page.drones); after = page.next || "";
    } while (after);
    if (pressed) return; // the next time
    const box = $("drones"), cards = all.map(card);
    if (box.contains(document.activeElement)) { const name = document.activeElement.closest("article")?.dataset.drone; box.replaceChildren(...cards); box.querySelector(`[data-drone="${CSS.escape(name || "")}"] button`)?.focus(); }
    else box.replaceChildren(...(cards.length ? cards : [el("p", "No drone has registered.")]));
  } catch (e) { say("The drones cannot be listed: " + e.message); }
}

function card(d) {
  const a = el("article"); a.dataset.drone = d.drone;
  const state = d.lost ? "lost" : d.draining ? "draining" : d.ready ? "ready" : "not ready";
  a.append(el("h3", d.drone), el("b", state, "state " + (d.lost ? "failed" : state === "ready" ? "ready" : "")));
  a.append(el("p", `${d.backends} ${d.backends === 1 ? "backend" : "backends"}${d.max_backends ? " of " + d.max_backends : ""} · ${d.cluster}${d.pool ? " · " + d.pool : ""}`));
  if (d.max_backends) { const m = el("meter"); m.max = d.max_backends; m.value = d.backends; m.setAttribute("aria-label", "load of " + d.drone); a.append(m); }
  if (d.not_ready) a.append(el("p", d.not_ready, "bad"));
  if (mayOperate) {
    const b = el("button", d.draining ? "Undrain" : "Drain"); b.setAttribute("aria-label", b.textContent + " " + d.drone);
    b.onclick = async () => {
      const text = d.draining ? "It is given backends again." : "It is given no more backends; those that it has go on.";
      if (await confirmed(`${b.textContent} ${d.drone}?`, text, b.textContent)) act(d.draining ? "/v1/undrain" : "/v1/drain", { drone: d.drone }).then(drones);
    };
    a.append(b);
  }
  return a;
}

// What is refused only for now, as while the database is away, is asked for again: whoever pressed the button has said so once and for all.
async function act(path, body) {
  for (let tries = 1; ; tries++) {
    try { const done = await ask(path, body); say(""); return done; } catch (e) {
      if (!e.passes || tries === 60) return say(e.message);
      say(e.message + " Trying again …");
      await new Promise((wake) => setTimeout(wake, 2000));
    }
  }
}

function confirmed(title, text, yes) {
  const d = $("confirm");
  $("confirm-title").textContent = title; $("confirm-text").textContent = text; $("confirm-yes").textContent = yes;
  d.returnValue = "no"; d.showModal();
  return new Promise((done) => d.addEventListener("close", () => done(d.returnValue === "yes"), { once: true }));
}

// Only the rows in sight are in the document.
const grid = $("backends"), body = $("rows");
const rowHeight = () => parseFloat(getComputedStyle(root).getPropertyValue("--row")) * parseFloat(getComputedStyle(root).fontSize);
function filter() {
  const text = $("find").value.trim().toLowerCase(), all = $("ended").checked;
  const selected = rows[chosen]?.backend_id;
  rows = [];
  for (const b of known.values()) if ((all || b.status !== "terminated") && (!text || b.text.includes(text) || b.status.startsWith(text))) rows.push(b);
  rows.sort((a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : a.backend_id < b.backend_id ? -1 : 1));
  chosen = selected ? rows.findIndex((b) => b.backend_id === selected) : -1;
  $("count").textContent = `${rows.length}${listing ? " …" : ""}`;
  grid.setAttribute("aria-rowcount", rows.length + 1);
}
function draw() {
  const h = rowHeight(), head = h, first = Math.max(0, Math.floor((grid.scrollTop - head) / h) - 8), n = Math.ceil(grid.clientHeight / h) + 16;
  body.style.height = rows.length * h + "px";
  const out = [];
  for (let i = first; i < Math.min(rows.length, first + n); i++) out.push(row(rows[i], i, h));
  if (!rows.length) out.push(el("p", listing ? "Listing …" : $("find").value ? "Nothing like that runs." : "Nothing runs.", "none"));
  body.replaceChildren(...out);
  if (chosen >= 0) grid.setAttribute("aria-activedescendant", "row-" + rows[chosen].backend_id); else grid.removeAttribute("aria-activedescendant");
}
function row(b, i, h) {
  const r = el("div", undefined, "row");
  r.id = "row-" + b.backend_id; r.setAttribute("role", "row"); r.setAttribute("aria-rowindex", i + 2); r.setAttribute("aria-selected", i === chosen);
  r.style.top = i * h + "px";
  const state = el("b", b.status, "state " + b.status);
  for (const c of [name(b.key), state, b.backend_id, b.drone, when(b.changed_at)]) {
    const s = el("span"); s.setAttribute("role", "gridcell"); s.append(c); if (typeof c === "string") s.title = c; r.append(s);
  }
  r.lastChild.title = whenDay(b.changed_at);
  r.onclick = () => { chosen = i; open(b); };
  return r;
}
// While a button of the mouse is down on the page nothing is drawn anew by itself: a click whose element went between
// press and release would reach nothing.
let pressed = false;
for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) addEventListener(kind, (e) => { pressed = kind !== "pointercancel" && e.buttons !== 0; }, { capture: true, passive: true });
let drawing = false;
function soon() { if (!drawing) { drawing = true; requestAnimationFrame(() => { drawing = false; draw(); }); } }
grid.addEventListener("scroll", soon, { passive: true });
addEventListener("resize", soon);
grid.addEventListener("keydown", (e) => {
  const page = Math.max(1, Math.floor(grid.clientHeight / rowHeight()) - 1);
  const to = { ArrowDown: chosen + 1, ArrowUp: chosen - 1, PageDown: chosen + page, PageUp: chosen - page, Home: 0, End: rows.length - 1 }[e.key];
  if (e.key === "Enter" && rows[chosen]) { open(rows[chosen]); e.preventDefault(); return; }
  if (to === undefined || !rows.length) return;
  e.preventDefault();
  chosen = Math.min(rows.length - 1, Math.max(0, to));
  const h = rowHeight(), top = chosen * h;
  if (top < grid.scrollTop) grid.scrollTop = top; else if (top + 2 * h > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + 2 * h - grid.clientHeight;
  soon();
});
$("search").addEventListener("submit", (e) => e.preventDefault());
$("find").addEventListener("input", () => { dirty = true; grid.scrollTop = 0; });
$("ended").addEventListener("change", () => { dirty = true; list(); });
addEventListener("keydown", (e) => { if (e.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement.tagName) && !document.querySelector("dialog[open]")) { e.preventDefault(); $("find").focus(); } });

async function open(b) {
  shown = b.backend_id;
  $("detail-title").textContent = name(b.key);
  $("story").replaceChildren(); $("lines").textContent = ""; $("acts").replaceChildren();
  facts(b);
  if (mayOperate && b.status !== "terminated") {
    for (const [name, hard, text] of [["Terminate", false, "It is asked to end, and killed after its grace."], ["Kill", true, "It is killed at once: what it has not saved is lost."]]) {
      const button = el("button", name, "danger");
      button.onclick = async () => { if (await confirmed(`${name} ${b.backend_id}?`, text, name)) act("/v1/terminate", { backend_id: b.backend_id, hard }); };
      $("acts").append(button);
    }
  }
  $("detail").showModal(); soon();
  const [info, events, lines] = await Promise.allSettled([ask(`/v1/backends/${b.backend_id}`), ask(`/v1/backends/${b.backend_id}/events`), ask(`/v1/backends/${b.backend_id}/logs?tail=50`)]);
  if (shown !== b.backend_id) return;
  if (info.status === "fulfilled") { const { users, more_users, last_used_at, asleep } = info.value; facts(Object.assign(known.get(b.backend_id) || b, { users, more_users, last_used_at, asleep })); }
  if (events.status === "fulfilled") { $("story").replaceChildren(); events.value.events.forEach(story); }
  $("lines").textContent = lines.status === "fulfilled" ? lines.value.lines.map((l) => l.line).join("\n") || "It has written nothing." : lines.reason.message;
}
function facts(b) {
  const dl = $("facts"); dl.replaceChildren();
  const users = b.users?.length ? b.users.map((u) => u || "(without a name)").join(", ") + (b.more_users ? " and more" : "") : undefined;
  for (const [k, v] of [["Backend", b.backend_id], ["Status", b.status + (b.asleep ? ", asleep" : "")], ["Tag", b.key.tag], ["Runs", b.runs], ["Users", users], ["Last used", b.last_used_at && whenDay(b.last_used_at)], ["Drone", b.drone], ["Cluster", b.cluster], ["Pool", b.pool], ["Address", b.address], ["Since", whenDay(b.created_at)], ["Ended by", [b.termination_kind, b.termination_reason].filter(Boolean).join(", ")], ["Exit code", b.exit_code], ["Message", b.message]]) if (v !== undefined && v !== "") dl.append(el("dt", k), el("dd", v));
}
function story(e) {
  const item = el("li", `${when(e.time)} ${e.status}` + (e.termination_reason ? `, ${e.termination_reason}` : "") + (e.exit_code !== undefined ? `, exit code ${e.exit_code}` : "") + (e.message ? `: ${e.message}` : ""));
  $("story").append(item);
  const b = known.get(e.backend_id); if (b) facts(b);
}
$("detail").addEventListener("close", () => { shown = null; grid.focus(); });

setInterval(() => { if (dirty && !pressed && !document.hidden) { dirty = false; filter(); draw(); } }, 200);
function rates() {
  const since = Date.now() - 60000, kinds = {};
  while (spawned.length && spawned[0] < since) spawned.shift();
  for (const list of [failed, refused]) {
    while (list.length && list[0][0] < since) list.shift();
    for (const [, kind, n] of list) kinds[kind] = (kinds[kind] || 0) + (n || 1);
  }
  const connects = perSecond === null ? "" : `${perSecond < 10 ? Math.round(perSecond * 10) / 10 : Math.round(perSecond)} connects a second here · `;
  $("rate").textContent = connects + `${spawned.length} ${spawned.length === 1 ? "start" : "starts"} in a minute`;
  $("errors").textContent = Object.entries(kinds).map(([kind, n]) => `${n} ${kind}`).join(" · ");
}
rates();
setInterval(rates, 1000);
setInterval(() => { if (!document.hidden) drones(); }, 5000);
// After an hour what has ended is not kept.
setInterval(() => { for (const [id, b] of known) if (b.status === "terminated" && id !== shown && Date.now() - Date.parse(b.changed_at) > 3600000) known.delete(id); }, 60000);
follow();
setTimeout(() => { if (!known.size) list(); }, 1500); // also where nothing can be followed
