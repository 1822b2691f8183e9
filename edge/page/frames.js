// The last frames: one large with its answer drawn on it, the others to choose from.

import { getPictureUrl } from "./api.js";
import { bytes, clock, duration, found, times } from "./format.js";

const byId = (id) => document.getElementById(id);
const urls = new Map(); // frame id -> object URL, or null where the edge has no picture any more
const buttons = new Map(); // frame id -> its button in the strip
let chosen = null;

byId("follow").addEventListener("change", () => byId("follow").checked && (chosen = null));

// How much larger JPEGs of quality 75 of what the networks see would be, over the listed frames.
function drawComparison(frames) {
  const compared = frames.filter((frame) => frame.jpeg_bytes);
  const total = (name) => compared.reduce((sum, frame) => sum + frame[name], 0);
  byId("jpeg").textContent = compared.length ? bytes(total("jpeg_bytes") / compared.length) : "–";
  byId("ratio").textContent = compared.length ? times(total("jpeg_bytes") / total("num_bytes")) : "–";
}

export async function showFrames(frames) {
  drawComparison(frames);
  byId("empty").hidden = frames.length > 0;
  if (!frames.length) return;
  if (byId("follow").checked || !frames.some((frame) => frame.id === chosen)) chosen = frames[0].id;
  forget(new Set(frames.map((frame) => frame.id)));
  await load(frames.find((frame) => frame.id === chosen));
  drawStrip(frames);
  drawFrame(frames.find((frame) => frame.id === chosen));
  for (const frame of frames) {
    await load(frame);
    drawThumbnail(frame);
  }
}

async function load(frame) {
  if (urls.has(frame.id)) return;
  if (!frame.has_picture) {
    urls.set(frame.id, null);
    return;
  }
  try {
    urls.set(frame.id, await getPictureUrl(frame.id));
  } catch (problem) {
    if (problem.status === 404) urls.set(frame.id, null);
    else if (problem.status !== 429) throw problem; // 429: the edge is busy with frames; next time
  }
}

function forget(listed) {
  for (const [id, url] of urls) {
    if (listed.has(id)) continue;
    if (url) URL.revokeObjectURL(url);
    urls.delete(id);
  }
  for (const [id, button] of buttons) {
    if (listed.has(id)) continue;
    button.parentElement.remove();
    buttons.delete(id);
  }
}

function describe(frame) {
  return `${frame.camera} at ${clock(frame.capture_time)}, ${frame.task}: ${found(frame)}`;
}

function drawFrame(frame) {
  const picture = byId("picture");
  const url = urls.get(frame.id);
  picture.hidden = !url;
  if (url && picture.src !== url) picture.src = url;
  picture.alt = describe(frame);
  const text = found(frame);
  if (byId("found").textContent !== text) byId("found").textContent = text;
  const posted = frame.picture_bytes === null ? "" : `, the posted file had ${bytes(frame.picture_bytes)}`;
  facts([
    ["camera", `${frame.camera}, ${clock(frame.capture_time)}`],
    ["task", frame.task],
    ["sent", bytes(frame.num_bytes) + posted],
    ...(frame.jpeg_bytes ? [["as JPEG 75", `${bytes(frame.jpeg_bytes)} at the network's size (${times(frame.jpeg_bytes / frame.num_bytes)})`]] : []),
    ...(frame.held === null ? [] : [["kept from before", `${Math.round(100 * frame.held)} % of the picture`]]),
    ["rate", frame.rate.toFixed(2)],
    ["answer after", duration(frame.total)],
  ]);
}

function facts(rows) {
  byId("facts").replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    term.textContent = name;
    const text = document.createElement("dd");
    text.textContent = value;
    return [term, text];
  }));
}

// Buttons stay the same elements over refreshes, so the keyboard's focus stays where it is.
function drawStrip(frames) {
  const strip = byId("strip");
  frames.forEach((frame, index) => {
    let button = buttons.get(frame.id);
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      const image = document.createElement("img");
      image.alt = "";
      const when = document.createElement("span");
      when.textContent = clock(frame.capture_time);
      const what = document.createElement("span");
      what.textContent = `${bytes(frame.num_bytes)} ${found(frame)}`;
      button.append(image, when, what);
      button.setAttribute("aria-label", `Show ${describe(frame)}`);
      button.addEventListener("click", () => choose(frame));
      buttons.set(frame.id, button);
      const item = document.createElement("li");
      item.append(button);
    }
    button.setAttribute("aria-current", String(frame.id === chosen));
    if (strip.children[index] !== button.parentElement) strip.insertBefore(button.parentElement, strip.children[index] ?? null);
  });
}

function drawThumbnail(frame) {
  const url = urls.get(frame.id);
  const image = buttons.get(frame.id)?.querySelector("img");
  if (url && image && image.src !== url) image.src = url;
}

async function choose(frame) {
  chosen = frame.id;
  byId("follow").checked = false;
  for (const [id, button] of buttons) button.setAttribute("aria-current", String(id === chosen));
  await load(frame);
  drawFrame(frame);
}
