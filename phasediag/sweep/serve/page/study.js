// A study: its page in a frame, made again when the study has changed. What the page shows is kept in the address.

import { bar, byId, element, follow, progressText } from "./live.js";

const folder = decodeURI(location.pathname.slice("/study/".length));
const frame = byId("page");
let shown = null; // the tag of the state that the frame shows
let scroll = 0;

/** Shows the present page where the last one was looked at. */
function show(tag) {
  const inside = frame.contentWindow;
  const view = shown === null ? location.hash : inside.location.hash;
  scroll = shown === null ? 0 : inside.scrollY;
  shown = tag;
  inside.location.replace(`/page/${encodeURI(folder)}?${tag}${view}`); // another address, or only the view would change
}

frame.addEventListener("load", () => {
  if (shown === null) return;
  frame.contentWindow.scrollTo(0, scroll);
  document.title = frame.contentDocument.title || folder;
});

// the address of this page says what its frame shows, to be copied
setInterval(() => {
  const view = frame.contentWindow.location.hash;
  if (view && view !== location.hash) history.replaceState(null, "", view);
}, 500);

follow(`/state/${encodeURI(folder)}`, (study) => {
  byId("progress").replaceChildren(
    element("span", { class: `state ${study.state}` }, study.state),
    bar(study),
    element("span", {}, progressText(study)),
  );
  if (study.tag !== shown) show(study.tag);
});
