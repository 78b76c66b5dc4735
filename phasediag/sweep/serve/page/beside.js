// Two to four studies side by side: their maps, which share view, pointer and colours, and what differs.

const asked = [...new Set(new URLSearchParams(location.search).getAll("study"))];
const wanted = asked.length < 2 || asked.length > 4 ? [] : asked;
const query = new URLSearchParams(wanted.map((folder) => ["study", folder]));
const letters = "ABCD";
const frames = wanted.map((folder, i) => {
  const address = `/study/${folder.split("/").map(encodeURIComponent).join("/")}`;
  const frame = make("iframe", { src: `${address}${location.hash}`, title: `${letters[i]}: ${folder}` });
  byId("parts").append(make("section", {}, make("h2", {}, `${letters[i]}: `, make("a", { href: address }, folder)), frame));
  return frame;
});
const scales = frames.map(() => null);

function send(message, to) {
  to.forEach((frame) => frame.contentWindow.postMessage(message, location.origin));
}

/** The scale of colours of all maps that show the same quantity. */
function common(scale) {
  const ranges = scales.filter((one) => one && one.key === scale.key).map(({ range }) => range);
  return { key: scale.key, range: [Math.min(...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))] };
}

addEventListener("message", ({ origin, source, data }) => {
  const from = frames.findIndex((frame) => frame.contentWindow === source);
  if (origin !== location.origin || from < 0) return;
  const others = frames.filter((_, i) => i !== from);
  if (data.height) frames[from].height = data.height;
  if ("pointer" in data) send(data, others);
  if ("scale" in data) {
    scales[from] = data.scale;
    if (data.scale) send({ scale: common(data.scale) }, frames);
  }
  if (data.view) {
    history.replaceState(null, "", `#${new URLSearchParams(data.view)}`);
    send({ view: data.view }, others);
  }
});

function drawDifferences({ specs, reason, tables, figures, notes = [], remarks = [] }) {
  const names = [...letters.slice(0, wanted.length)];
  show("specs", specs.length ? makeTable(["key", ...names], specs, { words: ["key", ...names] }) : make("p", {}, "Nothing."));
  byId("measured").hidden = !reason && !tables.length;
  const stamp = Date.now();
  show(
    "differences",
    ...[reason, ...notes].filter(Boolean).map((text) => make("p", {}, text)),
    ...figures.map((name) => make("img", { src: `/difference/${name}?${query}&${stamp}`, alt: name, class: "difference" })),
    ...tables.map(({ columns, rows }) => make("div", { class: "scroll" }, makeTable(columns, rows))),
    ...remarks.map((text) => make("p", { class: "help" }, text)),
  );
}

if (wanted.length) follow(`/beside.json?${query}`, drawDifferences);
else {
  byId("trouble").hidden = false;
  byId("trouble").textContent = "Choose two to four studies in the list.";
}
