// Requests to this edge: the token, and errors that carry the edge's own words.

const TOKEN = "splitcodec-token"; // in sessionStorage: gone with the tab

export class Problem extends Error {
  constructor(status, detail, remedy) {
    super([detail, remedy].filter(Boolean).join(" "));
    this.status = status;
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

async function answer(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Problem(0, "The edge cannot be reached.", "");
  }
  if (response.ok) return response;
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // not one of the edge's own answers
  }
  throw new Problem(response.status, problem.detail ?? `${response.status} ${response.statusText}`, problem.remedy ?? "");
}

export async function getJson(path) {
  return (await answer(path)).json();
}

// Waits for the edge's events and calls `told` for each, until the connection ends.
export async function hearEvents(told) {
  const reader = (await answer("/v1/events")).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    if (events.some((event) => event.startsWith("event: frame"))) told();
  }
}

export async function getReadiness() {
  try {
    return await getJson("/readyz");
  } catch (problem) {
    if (problem.status === 0 || problem.status === 401 || problem.status === 403) throw problem;
    return null; // 503: not ready
  }
}

export async function getPictureUrl(id) {
  const blob = await (await answer(`/v1/frames/${encodeURIComponent(id)}/overlay.jpg`)).blob();
  return URL.createObjectURL(blob);
}

export async function postPicture(camera, blob) {
  const options = { method: "POST", body: blob, headers: { "Content-Type": blob.type || "application/octet-stream" } };
  return (await answer(`/v1/frames?camera=${encodeURIComponent(camera)}`, options)).json();
}

export async function putPrompt(camera, choice) {
  const path = `/v1/cameras/${encodeURIComponent(camera)}/prompt`;
  if (choice === null) return (await answer(path, { method: "DELETE" })).json();
  const options = { method: "PUT", body: JSON.stringify(choice), headers: { "Content-Type": "application/json" } };
  return (await answer(path, options)).json();
}
