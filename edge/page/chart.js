// A line chart of the last minutes as inline SVG; a sentence says the same to those who do not see it.

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 360;
const HEIGHT = 120;
const LEFT = 58;
const BOTTOM = 18;
const TOP = 8;

function element(name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}

function path(values, top) {
  const plot = WIDTH - LEFT - 4;
  let drawn = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = LEFT + (plot * index) / Math.max(values.length - 1, 1);
    const y = HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / top;
    drawn += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    if (pen === "M") drawn += "h0.01"; // a value alone is a dot
    pen = "L";
  });
  return drawn;
}

// lines: arrays of numbers or null, oldest first; minutes: how far back they go; label: for screen readers.
export function drawChart(place, lines, minutes, format, label) {
  const largest = Math.max(0, ...lines.flat().filter((value) => value !== null));
  const top = niceTop(largest);
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    const y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share;
    svg.append(element("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y, y2: y }));
    svg.append(element("text", { x: LEFT - 4, y: y + 4, "text-anchor": "end" }, largest ? format(top * share) : share ? "" : "0"));
  }
  svg.append(element("text", { x: LEFT, y: HEIGHT - 4 }, `${minutes} min ago`));
  svg.append(element("text", { x: WIDTH - 4, y: HEIGHT - 4, "text-anchor": "end" }, "now"));
  lines.forEach((values, index) =>
    svg.append(element("path", { class: index ? "second" : "first", "stroke-linecap": "round", d: path(values, top) })));
  place.replaceChildren(svg);
}
