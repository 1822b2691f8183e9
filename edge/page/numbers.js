// The state of the edge, and the last minutes in numbers and charts.

import { bitrate, bytes, duration } from "./format.js";
import { drawChart } from "./chart.js";

const RECENT_STEPS = 6; // what "now" means in the numbers
const byId = (id) => document.getElementById(id);

function pill(id, text, kind) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
  place.className = kind;
}

export function drawState(readiness) {
  if (readiness === null) {
    pill("state-edge", "edge: not ready", "bad");
    pill("state-cloud", "cloud: unknown", "warn");
    pill("state-spool", "spool: unknown", "warn");
    return;
  }
  const { cloud, spool } = readiness;
  byId("device").textContent = readiness.device;
  pill("state-edge", readiness.ready ? "edge: ready" : "edge: not ready", readiness.ready ? "good" : "bad");
  const flows = cloud.state === "ready" && !cloud.note;
  pill("state-cloud", flows ? "cloud: connected" : `cloud: ${cloud.state.replace("_", " ")}`, flows ? "good" : "warn");
  byId("state-cloud").title = [cloud.target, cloud.note].filter(Boolean).join(": ");
  const waits = `spool: ${spool.frames} frames, ${bytes(spool.num_bytes)}, oldest ${duration(spool.oldest_s)}`;
  pill("state-spool", spool.note ? `spool: ${spool.note}` : spool.frames ? waits : "spool: empty",
    spool.note ? "bad" : spool.frames ? "warn" : "good");
}

function sum(steps, name) {
  return steps.reduce((total, step) => total + step[name], 0);
}

export function drawHistory(history) {
  const { step_s: stepSeconds, steps } = history;
  const full = steps.slice(0, -1); // the newest step is still growing
  const now = full.slice(-RECENT_STEPS);
  const frames = sum(steps, "frames");
  const answers = sum(steps, "answers");
  const sent = sum(steps, "num_bytes");
  const posted = sum(steps, "picture_bytes");
  const mean = answers ? steps.reduce((total, step) => total + (step.mean_s ?? 0) * step.answers, 0) / answers : null;
  const speed = (8 * sum(now, "num_bytes")) / (now.length * stepSeconds);
  byId("bytes-frame").textContent = frames ? bytes(sent / frames) : "–";
  byId("bytes-picture").textContent = frames ? bytes(posted / frames) : "–";
  byId("bitrate").textContent = frames ? bitrate(speed) : "–";
  byId("latency").textContent = mean === null ? "–" : duration(mean);
  const minutes = Math.round((steps.length * stepSeconds) / 60);
  const rates = full.map((step) => (8 * step.num_bytes) / stepSeconds);
  drawChart(byId("chart-bitrate"), [rates], minutes, bitrate,
    frames ? `Bitrate of the last ${minutes} minutes: now ${bitrate(speed)}, at most ${bitrate(Math.max(...rates))}.` : "No frames yet.");
  drawChart(byId("chart-latency"), [steps.map((step) => step.mean_s), steps.map((step) => step.longest_s)], minutes, duration,
    mean === null ? "No answers yet."
      : `Time to the answer over ${minutes} minutes: mean ${duration(mean)}, longest ${duration(Math.max(...steps.map((step) => step.longest_s ?? 0)))}.`);
}
