// Pictures from this browser: chosen, dropped, or taken by its webcam.

import { postPicture } from "./api.js";
import { bytes, found } from "./format.js";

const JPEG_QUALITY = 0.9;
const byId = (id) => document.getElementById(id);

function say(text) {
  byId("sent").textContent = text;
}

function camera() {
  const field = byId("send-camera");
  return field.reportValidity() && field.value ? field.value : null;
}

async function send(blob, name, look) {
  const as = camera();
  if (as === null) return;
  try {
    const report = await postPicture(as, blob);
    const kept = report.state !== "answered";
    say(kept ? `${name} is kept on the edge: ${report.reason || report.state}.` : `${name}: ${words(report)}, ${bytes(report.num_bytes)} sent.`);
  } catch (problem) {
    say(`${name} was not taken: ${problem.message}`);
  }
  await look();
}

function words(report) {
  return found({ found: report.found.slice(0, 4), objects: report.objects });
}

async function sendAll(files, look) {
  for (const file of files) {
    say(`Sending ${file.name} …`);
    await send(file, file.name, look);
  }
}

export function setUpSending(look) {
  const drop = byId("drop");
  byId("file").addEventListener("change", async (event) => {
    await sendAll([...event.target.files], look);
    event.target.value = "";
  });
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    sendAll([...event.dataTransfer.files], look);
  });
  setUpWebcam(look);
}

function setUpWebcam(look) {
  const button = byId("webcam");
  const view = byId("webcam-view");
  let stream = null;
  if (!navigator.mediaDevices?.getUserMedia) {
    button.disabled = true;
    button.textContent = "Webcam: only over https or on this machine";
    return;
  }
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    view.hidden = true;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Start webcam";
  };
  button.addEventListener("click", async () => {
    if (stream) return stop();
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
    } catch (error) {
      return say(`No webcam: ${error.message}`);
    }
    view.srcObject = stream;
    view.hidden = false;
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop webcam";
    await view.play();
    while (stream) {
      const started = performance.now();
      await send(await still(view), "Webcam frame", look);
      const pause = 1000 / Math.max(Number(byId("webcam-fps").value) || 1, 0.1);
      await new Promise((done) => setTimeout(done, Math.max(0, pause - (performance.now() - started))));
    }
  });
}

function still(view) {
  const canvas = document.createElement("canvas");
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  canvas.getContext("2d").drawImage(view, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", JPEG_QUALITY));
}
