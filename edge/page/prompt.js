// Which task and rate a camera uses: shown, and swapped while frames flow.

import { putPrompt } from "./api.js";

const byId = (id) => document.getElementById(id);
let cameras = [];

export function fillChoices(seen, prompts) {
  cameras = seen;
  const names = seen.map((one) => one.camera);
  options(byId("cameras"), names.map((name) => [name, name]));
  options(byId("shown-camera"), [["", "all"], ...names.map((name) => [name, name])]);
  const tasks = [...new Set(prompts.filter((one) => one.active).map((one) => one.task))];
  options(byId("prompt-task"), tasks.map((name) => [name, name]));
  if (prompts.length) byId("prompt-rate").max = String(prompts[0].max_rate);
  showRate();
  showCurrent();
}

// Replaces options only where they changed, and keeps what is selected.
function options(list, rows) {
  const before = [...list.children].map((one) => one.value).join("\n");
  if (before === rows.map(([value]) => value).join("\n")) return;
  const selected = list.value;
  list.replaceChildren(...rows.map(([value, text]) => new Option(text, value)));
  if (rows.some(([value]) => value === selected)) list.value = selected;
}

function showRate() {
  byId("prompt-rate-value").textContent = Number(byId("prompt-rate").value).toFixed(2);
}

function showCurrent() {
  const name = byId("prompt-camera").value;
  const camera = cameras.find((one) => one.camera === name);
  if (!camera) {
    byId("prompt-now").textContent = "This camera has sent nothing yet.";
    return;
  }
  const rate = camera.rate !== null ? `rate ${camera.rate}` : camera.target_kbps !== null ? `${camera.target_kbps} kbit/s` : "the edge's own rate";
  byId("prompt-now").textContent =
    `${name} uses ${camera.task}, prompt ${camera.prompt_digest ?? "none"}, ${rate}${camera.chosen ? "" : " (as the edge is set)"}.`;
}

function choice() {
  const task = byId("prompt-task").value;
  const mode = new FormData(byId("prompt")).get("mode");
  if (mode === "rate") return { task, rate: Number(byId("prompt-rate").value) };
  if (mode === "kbps") return { task, target_kbps: Number(byId("prompt-kbps").value) };
  return { task };
}

async function swap(wanted, look) {
  const camera = byId("prompt-camera").value;
  const said = byId("prompt-said");
  try {
    const now = await putPrompt(camera, wanted);
    cameras = [...cameras.filter((one) => one.camera !== camera), now];
    showCurrent();
    said.textContent = `Done: the next frame of ${camera} uses ${now.task}.`;
    await look();
  } catch (problem) {
    said.textContent = `Not changed: ${problem.message}`;
  }
}

export function setUpPrompt(look) {
  byId("prompt-rate").addEventListener("input", () => {
    showRate();
    document.querySelector('input[name="mode"][value="rate"]').checked = true;
  });
  byId("prompt-kbps").addEventListener("input", () => (document.querySelector('input[name="mode"][value="kbps"]').checked = true));
  byId("prompt-camera").addEventListener("input", showCurrent);
  byId("prompt").addEventListener("submit", (event) => {
    event.preventDefault();
    swap(choice(), look);
  });
  byId("prompt-reset").addEventListener("click", () => byId("prompt").reportValidity() && swap(null, look));
}
