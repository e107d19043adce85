// Sizes, times and counts as people read them.

import { locale, words } from "./words.js";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const made = new Map();

/** Formatters are costly to make, and 1,000 cells need the same one. */
function formatter(kind, options) {
  const key = `${kind.name} ${locale()} ${JSON.stringify(options)}`;
  if (!made.has(key)) made.set(key, new kind(locale(), options));
  return made.get(key);
}

export const count = (n) => formatter(Intl.NumberFormat, {}).format(n);

export const list = (names) => formatter(Intl.ListFormat, { style: "long", type: "conjunction" }).format(names);

export function size(bytes) {
  let power = 0;
  while (bytes >= 1000 && power < UNITS.length - 1) {
    bytes /= 1024;
    power += 1;
  }
  const digits = power === 0 || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2;
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return `${formatter(Intl.NumberFormat, options).format(bytes)} ${UNITS[power]}`;
}

export const speed = (bytesPerSecond) => `${size(bytesPerSecond)}/s`;

export const percent = (share) => formatter(Intl.NumberFormat, { style: "percent", maximumFractionDigits: 0 }).format(Math.floor(share * 100) / 100);

/** `3 h 20 min`: the two largest units. */
export function length(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  const parts = seconds < 60 ? [[seconds, "second"]]
    : seconds < 3600 ? [[Math.floor(seconds / 60), "minute"], [seconds < 600 ? seconds % 60 : 0, "second"]]
    : seconds < 86400 ? [[Math.floor(seconds / 3600), "hour"], [Math.floor(seconds / 60) % 60, "minute"]]
    : [[Math.floor(seconds / 86400), "day"], [Math.floor(seconds / 3600) % 24, "hour"]];
  return parts
    .filter(([value], at) => at === 0 || value > 0)
    .map(([value, unit]) => formatter(Intl.NumberFormat, { style: "unit", unit, unitDisplay: "short" }).format(value))
    .join(" ");
}

/** How far a time is from now: `in 43 min`, `2 h ago`. */
export function relative(time, now = Date.now()) {
  const seconds = Math.round((Date.parse(time) - now) / 1000);
  const size = Math.abs(seconds);
  if (size < 5) return words("now");
  const [value, unit] = size < 60 ? [seconds, "second"]
    : size < 3600 ? [seconds / 60, "minute"]
    : size < 86400 * 2 ? [seconds / 3600, "hour"]
    : [seconds / 86400, "day"];
  return formatter(Intl.RelativeTimeFormat, { numeric: "always", style: "short" }).format(Math.trunc(value), unit);
}

/** In the viewer's zone. */
export const when = (time) => formatter(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "short" }).format(new Date(time));
export const shortly = (time) => formatter(Intl.DateTimeFormat, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" }).format(new Date(time));

/** For titles: `2026-11-24 21:05:00 UTC` */
export const utc = (time) => `${new Date(time).toISOString().slice(0, 19).replace("T", " ")} UTC`;

export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

export const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;
