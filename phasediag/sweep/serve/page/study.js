// A study that is kept up to date; within a page of several studies, its map alone, whose view follows the others.

const folder = location.pathname.slice("/study".length);
const isPart = parent !== window;
let shown = null; // the tag of what is shown
let linked = false;
let seen = ""; // the last view

const runsOf = async (cell) => (await get(`/runs${folder}?${new URLSearchParams({ cell })}`, { cache: "no-cache" })).json();

/** Shows the present content, if another is shown. */
async function load() {
  const answer = await get(`/content${folder}`, { cache: "no-cache" });
  if (kind === null) return location.reload(); // The study was damaged when the page was made.
  await renew({ ...(await answer.json()), runs_of: {} });
  document.title = content.study.name;
  shown = answer.headers.get("etag");
}

/** Sends to the page around this one. */
function send(message) {
  parent.postMessage(message, location.origin);
}

/** Shows what the page around this one sends, and sends it where the pointer is. */
function link() {
  linked = true;
  const plot = byId(kind.plot);
  const isHere = () => document.body.matches(":hover");
  plot.on("plotly_hover", ({ points: [{ x, y }] }) => isHere() && send({ pointer: [x, y], plot: kind.plot }));
  plot.on("plotly_unhover", () => isHere() && send({ pointer: null, plot: kind.plot }));
  addEventListener("message", ({ origin, source, data }) => {
    if (origin !== location.origin || source !== parent) return;
    if (data.view) take(data.view);
    if (data.scale) kind.share?.(data.scale);
    if (data.plot !== kind.plot) return;
    if (data.pointer) Plotly.Fx.hover(plot, { xval: data.pointer[0], yval: data.pointer[1] }, "xy", true);
    else Plotly.Fx.unhover(plot);
  });
  new ResizeObserver(() => send({ height: document.documentElement.scrollHeight })).observe(document.body);
}

/** Shows another study's view, as far as there is such a thing here. */
function take(view) {
  const now = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  history.replaceState(null, "", `#${new URLSearchParams({ ...now, ...view })}`);
  kind.again();
  seen = location.hash.slice(1); // which nobody needs to be sent
}

document.body.classList.toggle("part", isPart);
connect(runsOf, (view) => {
  if (!isPart) return;
  const text = String(new URLSearchParams(view));
  if (text !== seen) send({ view });
  send({ scale: kind.scale?.() ?? null });
  seen = text;
});
follow(`/state${folder}`, async (study) => {
  show("progress", make("span", { class: `state ${study.state}` }, study.state), bar(study), make("span", {}, sweepText(study)));
  if (study.error) throw new Error(study.error);
  if (study.tag !== shown) await load();
  if (isPart && !linked && content.runs) link();
});
