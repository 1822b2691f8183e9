// The live page: asks the edge when it tells of a frame, and now and then, while somebody looks.

import { getJson, getReadiness, hearEvents, setToken } from "./api.js";
import { drawHistory, drawState } from "./numbers.js";
import { showFrames } from "./frames.js";
import { fillChoices, setUpPrompt } from "./prompt.js";
import { setUpSending } from "./send.js";

const EVERY_MS = 2000;
const AGAIN_MS = 3000;
const SLOWLY = 5; // cameras and prompts: every so many-th time
const LISTED = 12;

const byId = (id) => document.getElementById(id);
let asked = 0;
let timer = 0;
let running = null;

async function refresh() {
  const camera = byId("shown-camera").value;
  const query = camera ? `camera=${encodeURIComponent(camera)}` : "";
  const [readiness, frames, history] = await Promise.all([
    getReadiness(),
    getJson(`/v1/frames?limit=${LISTED}&${query}`),
    getJson(`/v1/history?${query}`),
  ]);
  drawState(readiness);
  drawHistory(history);
  await showFrames(frames);
  if (asked % SLOWLY === 0) fillChoices(await getJson("/v1/cameras"), await getJson("/v1/prompts"));
  asked += 1;
}

async function turn() {
  clearTimeout(timer);
  try {
    await refresh();
    notice("");
  } catch (problem) {
    if (problem.status === 401 || problem.status === 403) askForToken(problem);
    else notice(problem.message);
    if (!problem.status) drawState(null);
  }
  if (!document.hidden && !byId("login").open) timer = setTimeout(look, EVERY_MS);
}

// One refresh at a time; asking again while one runs waits for that one.
export function look() {
  running ??= turn().finally(() => (running = null));
  return running;
}

// Frames are drawn as they come; without events, at the pace of the timer.
async function hear() {
  try {
    if (!document.hidden) await hearEvents(() => !document.hidden && look());
  } catch {
    // the page says itself why it cannot ask
  }
  setTimeout(hear, AGAIN_MS);
}

function notice(text) {
  const place = byId("notice");
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
}

function askForToken(problem) {
  byId("login-why").textContent = problem.message;
  if (!byId("login").open) byId("login").showModal();
}

byId("login-form").addEventListener("submit", () => {
  setToken(byId("token").value);
  byId("token").value = "";
});
byId("login").addEventListener("close", () => {
  asked = 0;
  setTimeout(look, 0);
});
byId("shown-camera").addEventListener("change", look);
document.addEventListener("visibilitychange", () => !document.hidden && look());
setUpPrompt(look);
setUpSending(look);
look();
hear();
