// Numbers as people read them.

export function bytes(count) {
  if (count < 1000) return `${Math.round(count)} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(count < 1e4 ? 1 : 0)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

export function bitrate(bitsPerSecond) {
  if (bitsPerSecond < 1e6) return `${(bitsPerSecond / 1e3).toFixed(bitsPerSecond < 1e4 ? 1 : 0)} kbit/s`;
  return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
}

export function duration(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : seconds < 100 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds / 60)} min`;
}

export function times(factor) {
  return `${factor < 10 ? factor.toFixed(1) : Math.round(factor)}×`;
}

export function clock(unixSeconds) {
  return new Date(unixSeconds * 1000).toLocaleTimeString();
}

export function found(frame) {
  if (!frame.found.length) return "nothing found";
  const names = frame.found.map((one) => `${one.label.split(",")[0]} ${one.share.toFixed(2)}`).join(", ");
  const more = frame.objects === null ? 0 : frame.objects - frame.found.length;
  return more > 0 ? `${names}, ${more} more` : names;
}
