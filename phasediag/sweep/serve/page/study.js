// A study that is kept up to date; within a page of several studies, its map alone, whose view follows the others.

const folder = location.pathname.slice("/study".length);
const isPart = parent !== window;
let shown = null; // the tag of what is shown

const runsOf = async (cell) => (await get(`/runs${folder}?${new URLSearchParams({ cell })}`, { cache: "no-cache" })).json();

/** Shows the present content, if another is shown. */
async function load() {
  const answer = await get(`/content${folder}`, { cache: "no-cache" });
  if (kind === null) return location.reload(); // The study was damaged when the page was made.
  await renew({ ...(await answer.json()), runs_of: {} });
  document.title = content.study.name;
  shown = answer.headers.get("etag");
}

document.body.classList.toggle("part", isPart);
connect(runsOf, () => {});
follow(`/state${folder}`, async (study) => {
  show("progress", make("span", { class: `state ${study.state}` }, study.state), bar(study), make("span", {}, sweepText(study)));
  if (study.error) throw new Error(study.error);
  if (study.tag !== shown) await load();
});
