// What both pages share: asking again and again, and how far a sweep is.

const EVERY = 2000;

export const byId = (id) => document.getElementById(id);

/** An element with attributes, and with children that are elements or text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Calls `show` with what is at this address, now and whenever it has changed; tells how old it is, and what goes wrong. */
export function follow(address, show) {
  let tag = null;
  let last = null;

  async function ask() {
    try {
      const answer = await fetch(address, { headers: tag ? { "if-none-match": tag } : {}, cache: "no-store" });
      if (answer.status === 200) {
        tag = answer.headers.get("etag");
        show(await answer.json());
      } else if (answer.status !== 304) throw new Error(await answer.text());
      last = Date.now();
      byId("trouble").hidden = true;
    } catch (error) {
      byId("trouble").textContent = error instanceof TypeError ? "The server does not answer." : error.message;
      byId("trouble").hidden = false;
    }
    setTimeout(ask, EVERY);
  }

  const tell = () => {
    if (last !== null) byId("updated").textContent = `updated ${Math.round((Date.now() - last) / 1000)} s ago`;
  };
  setInterval(tell, 1000);
  ask();
}

/** A duration, in one unit. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
}

const number = new Intl.NumberFormat("en");

/** How far a sweep is, in words. */
export function progressText({ state, status, end, error }) {
  if (!status) return error;
  const done = status.finished + status.failed;
  const parts = [status.missing ? `${number.format(done)} of ${number.format(status.total)} jobs` : `${number.format(done)} jobs`];
  if (status.failed) parts.push(`${number.format(status.failed)} failed`);
  if (state === "running" && status.rate) parts.push(`${status.rate.toPrecision(2)} jobs/s`);
  if (state === "running" && status.seconds_left !== null) parts.push(`${duration(status.seconds_left)} left`);
  if (end) parts.push(end);
  return parts.join(", ");
}

/** A bar of what is done, failed and missing. */
export function bar({ status, state }) {
  if (!status || !status.total) return element("span", { class: "bar" });
  const part = (count, kind) => {
    const made = element("span", { class: kind });
    made.style.width = `${(100 * count) / status.total}%`;
    return made;
  };
  return element("span", { class: `bar ${state}`, "aria-hidden": "true" }, part(status.finished, "done"), part(status.failed, "failed"));
}
