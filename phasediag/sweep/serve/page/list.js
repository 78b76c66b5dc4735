// The list of all studies: filtered, sorted, and followed while sweeps run.

const SORTS = {
  folder: ["folder", (a, b) => a.folder.localeCompare(b.folder, "en", { numeric: true })],
  changed: ["last change", (a, b) => (b.changed ?? 0) - (a.changed ?? 0)],
  state: ["state", (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state)],
  jobs: ["jobs", (a, b) => (b.status?.total ?? 0) - (a.status?.total ?? 0)],
};
const STATES = ["running", "stopped", "damaged", "complete"];

const MOST_BESIDE = 4;

let studies = [];
const chosen = new Set(); // folders to be seen side by side
const items = new Map(); // by folder: what it was made of, and the element

function view() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const sort = parameters.get("sort");
  return { filter: parameters.get("filter") ?? "", sort: Object.hasOwn(SORTS, sort) ? sort : "folder" };
}

function setView(changes) {
  const now = { ...view(), ...changes };
  const kept = Object.entries(now).filter(([key, value]) => value && !(key === "sort" && value === "folder"));
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
  drawList();
}

function words(study) {
  return [study.folder, study.name, study.kind, study.state, study.finding, study.error, ...Object.values(study.outline ?? {})]
    .join(" ")
    .toLowerCase();
}

function item(study) {
  const made = JSON.stringify(study);
  const known = items.get(study.folder);
  if (known?.made === made) return known.element;
  const link = make("a", { href: `/study/${encodeURI(study.folder)}` }, study.folder || ".");
  const { networks, data, grid } = study.outline ?? {};
  const facts = [study.kind, networks, data, grid].filter(Boolean).join(" · ");
  const choice = make("input", { type: "checkbox", "aria-label": `${study.folder || "."} side by side` });
  choice.checked = chosen.has(study.folder);
  choice.addEventListener("change", () => choose(study.folder, choice.checked));
  const address = `/picture/${encodeURI(study.folder)}?${study.picture}`;
  const picture = study.picture ? make("img", { src: address, alt: "", loading: "lazy" }) : "";
  const changed = make("span", { class: "quiet", ...(study.changed && { "data-changed": study.changed }) });
  const line = make(
    "li",
    { class: study.state },
    choice,
    make("div", { class: "picture" }, picture),
    make("div", {}, make("h2", {}, link), make("p", {}, facts)),
    make(
      "div",
      { class: "progress" },
      make("span", { class: `state ${study.state}` }, study.state),
      bar(study),
      make("span", {}, study.error || sweepText(study)),
    ),
    make("div", { class: "result" }, make("span", {}, study.finding), changed),
  );
  items.set(study.folder, { made, element: line });
  return line;
}

function drawList() {
  const { filter, sort } = view();
  if (byId("filter").value !== filter) byId("filter").value = filter;
  byId("sort").value = sort;
  const wanted = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = studies.filter((study) => wanted.every((word) => words(study).includes(word))).sort(SORTS[sort][1]);
  const lines = shown.map(item);
  const there = [...byId("studies").children];
  if (lines.length !== there.length || lines.some((line, i) => line !== there[i])) {
    const focused = document.activeElement?.getAttribute("href");
    byId("studies").replaceChildren(...lines);
    if (focused) document.querySelector(`#studies a[href="${CSS.escape(focused)}"]`)?.focus();
  }
  byId("count").textContent =
    shown.length === studies.length ? `${shown.length} studies` : `${shown.length} of ${studies.length} studies`;
  drawBeside();
  age();
}

/** Takes a study among those to be seen side by side, or out of them. */
function choose(folder, yes) {
  if (yes) chosen.add(folder);
  else chosen.delete(folder);
  drawBeside();
}

function drawBeside() {
  const there = studies.map(({ folder }) => folder).filter((folder) => chosen.has(folder));
  const enough = there.length >= 2 && there.length <= MOST_BESIDE;
  const address = `/beside?${new URLSearchParams(there.map((folder) => ["study", folder]))}`;
  const text = enough
    ? make("a", { href: address }, `Show ${there.length} side by side`)
    : `Side by side: choose 2 to ${MOST_BESIDE} studies`;
  byId("beside").hidden = !there.length;
  show("beside", text);
}

/** How long ago studies have changed. */
function age() {
  document.querySelectorAll("[data-changed]").forEach((cell) => {
    cell.textContent = `changed ${duration(Math.max(Date.now() / 1000 - Number(cell.dataset.changed), 0))} ago`;
  });
}

byId("sort").append(...Object.entries(SORTS).map(([key, [name]]) => make("option", { value: key }, name)));
byId("filter").addEventListener("input", (event) => setView({ filter: event.target.value }));
byId("sort").addEventListener("change", (event) => setView({ sort: event.target.value }));
addEventListener("hashchange", drawList);
setInterval(age, 10000);
follow("/studies.json", (found) => {
  studies = found.studies;
  byId("root").textContent = found.root;
  document.title = `${found.root}: studies`;
  drawList();
});
