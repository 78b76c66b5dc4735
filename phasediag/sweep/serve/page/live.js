// What all served pages share: asking again and again, and how far a sweep is.

const EVERY = 2000;

/** The answer to a request; an error that says what is wrong if there is none, or none of use. */
async function get(address, options) {
  const answer = await fetch(address, options).catch(() => {
    throw new Error("The server does not answer.");
  });
  if (!answer.ok && answer.status !== 304) throw new Error(await answer.text());
  return answer;
}

/** Calls `show` with what is at this address, now and whenever it has changed; tells how old it is, and what goes wrong. */
function follow(address, show) {
  let tag = null;
  let last = null;

  async function ask() {
    if (document.hidden) return document.addEventListener("visibilitychange", ask, { once: true }); // nobody looks
    const trouble = await look().catch((error) => error.message);
    byId("trouble").hidden = !trouble;
    if (trouble) byId("trouble").textContent = trouble;
    else last = Date.now();
    return setTimeout(ask, EVERY);
  }

  async function look() {
    const answer = await get(address, { headers: tag ? { "if-none-match": tag } : {}, cache: "no-store" });
    if (answer.status === 304) return;
    await show(await answer.json());
    tag = answer.headers.get("etag");
  }

  const tell = () => {
    if (last !== null) byId("updated").textContent = `updated ${duration((Date.now() - last) / 1000)} ago`;
  };
  setInterval(tell, 1000);
  ask();
}

/** A duration, in one unit. */
function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
}

const number = new Intl.NumberFormat("en");
const rough = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** How far a sweep is, in words. */
function sweepText({ state, status, end }) {
  if (!status) return "";
  const done = status.finished + status.failed;
  const parts = [
    status.missing ? `${number.format(done)} of ${number.format(status.total)} jobs` : `${number.format(done)} jobs`,
  ];
  if (status.failed) parts.push(`${number.format(status.failed)} failed`);
  if (state === "running" && status.rate) parts.push(`${rough.format(status.rate)} jobs/s`);
  if (state === "running" && status.seconds_left !== null) parts.push(`${duration(status.seconds_left)} left`);
  if (end) parts.push(end);
  return parts.join(", ");
}

/** A bar of what is done, failed and missing. */
function bar({ status, state }) {
  if (!status?.total) return "";
  const part = (count, kind) => {
    const made = make("span", { class: kind });
    made.style.width = `${(100 * count) / status.total}%`;
    return made;
  };
  return make(
    "span",
    { class: `bar ${state}`, "aria-hidden": "true" },
    part(status.finished, "done"),
    part(status.failed, "failed"),
  );
}
