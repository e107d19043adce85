// Asks the service for something, and the user for the token when it is needed.

import { memory, words } from "./words.js";
import { reason, say } from "./elements.js";

const KEPT = "kops-mirror.token";
const byId = (id) => document.getElementById(id);

const token = () => memory.read(KEPT, "sessionStorage");

/** Shows the dialog; true when the user goes on. */
function dialog({ title, text, wrong = "", wantsToken = false }) {
  const box = byId("ask");
  say(byId("ask-title"), title);
  say(byId("ask-text"), text);
  say(byId("ask-wrong"), wrong);
  byId("ask-token").hidden = !wantsToken;
  byId("token").value = "";
  return new Promise((answer) => {
    const form = box.querySelector("form");
    const decide = (goesOn) => {
      box.removeEventListener("close", no);
      form.removeEventListener("submit", yes);
      byId("ask-no").removeEventListener("click", no);
      if (box.open) box.close();
      answer(goesOn);
    };
    const no = () => decide(false);
    const yes = (event) => {
      event.preventDefault();
      decide(true);
    };
    // Escape closes it too.
    box.addEventListener("close", no);
    form.addEventListener("submit", yes);
    byId("ask-no").addEventListener("click", no);
    box.showModal();
    byId(wantsToken ? "token" : "ask-no").focus();
  });
}

async function learnToken(wrong) {
  const goesOn = await dialog({ title: words("token.title"), text: words("token.text"), wrong, wantsToken: true });
  const typed = byId("token").value.trim();
  byId("token").value = "";
  if (!goesOn || typed === "") return false;
  memory.write(KEPT, typed, "sessionStorage");
  showForget();
  return true;
}

/** Sends a request that needs the token; its answer in JSON, or null when the user does not go on or it was refused. */
async function request(method, path, body) {
  let wrong = "";
  for (;;) {
    if (token() === null && !(await learnToken(wrong))) return null;
    const answer = await send(method, path, body);
    if (answer === null) return null;
    const told = await answer.json().catch(() => null);
    if (answer.ok) return told;
    if (answer.status !== 401) {
      tell([words("refused"), " ", reason(String(told?.error?.message ?? answer.status))], true);
      return null;
    }
    forget();
    wrong = words("token.wrong");
  }
}

async function send(method, path, body) {
  const headers = { Authorization: `Bearer ${token()}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    tell(words("unreachable"), true);
    return null;
  }
}

export async function start(set, purpose) {
  if (purpose === "prune" && !(await dialog({ title: words("ask.prune", { set }), text: words("ask.prune.text") }))) return;
  const told = await request("POST", `/api/v1/sets/${encodeURIComponent(set)}/runs`, { purpose });
  if (told) tell(words("started", { run: told.run }));
}

export async function cancel(run) {
  if (!(await dialog({ title: words("ask.cancel"), text: words("ask.cancel.text") }))) return;
  const told = await request("DELETE", `/api/v1/runs/${encodeURIComponent(run)}`);
  if (told) tell(words("cancelled", { run: told.run }));
}

/** What a set's next run would do; null where that is not to be known. */
export const plan = (set) => request("GET", `/api/v1/sets/${encodeURIComponent(set)}/plan`);

let telling;

/** Says something at the foot of the page for some seconds. */
function tell(what, isTrouble = false) {
  const box = byId("told");
  box.classList.toggle("trouble", isTrouble);
  box.replaceChildren(...[what].flat());
  clearTimeout(telling);
  telling = setTimeout(() => say(box, ""), 8000);
}

function forget() {
  memory.write(KEPT, null, "sessionStorage");
  showForget();
}

export function showForget() {
  byId("forget").hidden = token() === null;
}

byId("forget").addEventListener("click", () => {
  forget();
  tell(words("token.forgotten"));
});
